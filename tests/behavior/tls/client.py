"""Clients of an echo with TLS, by Python's ssl module: `client.py TASK PORT CA [CERT KEY]`.

Each task ends with exit code 0 if all is as it should be. If HEADER is in the environment, in hexadecimal
digits, each connection begins with it, in pieces of PIECE bytes.
"""

import json
import os
import select
import socket
import ssl
import sys
import threading
import time

TASK, PORT, CA, *IDENTITY = sys.argv[1:]
HEADER = bytes.fromhex(os.environ.get("HEADER", ""))
PIECE = int(os.environ.get("PIECE", "1000"))
DEADLINE = 60
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


def context(version=None):
    made = ssl.create_default_context(cafile=CA)
    if version:
        made.minimum_version = made.maximum_version = version
    if IDENTITY:
        made.load_cert_chain(*IDENTITY)
    return made


def connected():
    plain = socket.create_connection(("127.0.0.1", int(PORT)), timeout=DEADLINE)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return plain


def tcp():
    plain = connected()
    for at in range(0, len(HEADER), PIECE):
        plain.sendall(HEADER[at : at + PIECE])
    return plain


def connect(made, **options):
    return made.wrap_socket(tcp(), server_hostname="localhost", **options)


def receive(stream, count):
    received = b""
    while len(received) < count:
        more = stream.recv(65536)
        assert more, f"an end after {len(received)} of {count} bytes"
        received += more
    return received


def echo(stream, data):
    """Sends and receives in one thread: OpenSSL's connections are not for two."""
    stream.setblocking(False)
    sent, received = 0, b""
    while len(received) < len(data):
        wants = []
        try:
            sent += stream.send(data[sent : sent + 65536]) if sent < len(data) else 0
            wants = [stream] if sent < len(data) else []
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            wants = [stream]
        try:
            more = stream.recv(65536)
            assert more, f"an end after {len(received)} of {len(data)} bytes"
            received += more
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            ready = select.select([stream], wants, [], DEADLINE)
            assert any(ready), f"{len(received)} of {len(data)} bytes in time"
    stream.settimeout(DEADLINE)
    assert received == data


def versions():
    """Both versions echo, end in order, and resume."""
    for version in VERSIONS:
        made = context(version)
        stream = connect(made)
        echo(stream, b"a few bytes")
        echo(stream, bytes(range(256)) * 20_000)
        session = stream.session
        # Sends close_notify and waits for the peer's; then the socket ends.
        plain = stream.unwrap()
        assert plain.recv(1) == b""
        stream = connect(made, session=session)
        assert stream.session_reused
        echo(stream, b"once more")
        stream.unwrap()


def half_close():
    """All that was sent before close_notify comes back behind it, and then the peer's."""
    data = bytes(range(256)) * 4_000
    for version in VERSIONS:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context(version).wrap_bio(incoming, outgoing, server_hostname="localhost")
        plain = tcp()

        def step(call):
            while True:
                try:
                    result = call()
                    plain.sendall(outgoing.read())
                    return result
                except ssl.SSLWantReadError:
                    plain.sendall(outgoing.read())
                    more = plain.recv(65536)
                    if more:
                        incoming.write(more)
                    else:
                        incoming.write_eof()

        step(tls.do_handshake)
        tls.write(data)
        try:
            tls.unwrap()
        except (ssl.SSLWantReadError, ssl.SSLError):
            pass  # The close_notify is in `outgoing`.
        sender = threading.Thread(target=plain.sendall, args=(outgoing.read(),))
        sender.start()
        # Python reads nothing after its own close_notify, so the records are counted.
        received = b""
        while True:
            more = plain.recv(65536)
            if not more:
                break
            received += more
        sender.join()
        lengths, kinds = 0, []
        while received:
            kind, length = received[0], int.from_bytes(received[3:5], "big")
            kinds.append(kind)
            lengths += length
            received = received[5 + length :]
        assert lengths > len(data), f"{lengths} bytes of records for {len(data)}"
        if version == ssl.TLSVersion.TLSv1_2:
            assert kinds[-1] == 21, "an alert is the last record"


def truncation():
    """The socket ends without close_notify: what was sent comes back all the same."""
    for version in VERSIONS:
        stream = connect(context(version))
        stream.sendall(b"cut off")
        assert receive(stream, 7) == b"cut off"
        stream.detach_and_close = socket.socket(fileno=stream.detach())
        stream.detach_and_close.close()


def refused():
    """No handshake is completed; a TLS 1.3 client learns it with its first read."""
    try:
        stream = connect(context())
        stream.sendall(b"x")
        received = stream.recv(1)
    except (ssl.SSLError, ConnectionError):
        return
    raise AssertionError(f"served: {received}")


def plain_text():
    """An alert, or nothing, and an orderly end."""
    plain = tcp()
    plain.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 200)
    while plain.recv(65536):
        pass


def half_a_handshake():
    """The peer ends what does not go on."""
    plain = tcp()
    plain.sendall(b"\x16\x03\x01\x02\x00")
    assert plain.recv(1) == b""


def hold():
    """Stays while something happens to the server, until a line comes."""
    stream = connect(context())
    echo(stream, b"before")
    print("held", flush=True)
    sys.stdin.readline()
    echo(stream, b"after " * 10_000)
    stream.unwrap()


def finish(tls, plain, incoming, outgoing):
    while True:
        try:
            tls.do_handshake()
            return
        except ssl.SSLWantReadError:
            plain.sendall(outgoing.read())
            more = plain.recv(65536)
            if not more:
                raise ConnectionError from None
            incoming.write(more)


def hold_half():
    """As `hold`, in the middle of the first flight."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    plain = tcp()
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
    hello = outgoing.read()
    plain.sendall(hello[:100])
    # It is accepted, and has its part, once a later connection is served.
    connect(context()).unwrap()
    print("held", flush=True)
    sys.stdin.readline()
    try:
        plain.sendall(hello[100:])
        finish(tls, plain, incoming, outgoing)
    except OSError:
        sys.exit("ended by its peer")
    tls.write(b"served")
    plain.sendall(outgoing.read())
    received = b""
    while len(received) < 6:
        try:
            received += tls.read(6)
        except ssl.SSLWantReadError:
            more = plain.recv(65536)
            assert more, "an end"
            incoming.write(more)
    plain.close()


def never_read():
    """Sends as much as the server takes and reads nothing, on many connections."""
    streams = [connect(context()) for _ in range(40)]
    for stream in streams:
        stream.settimeout(0.3)
        try:
            while True:
                stream.send(bytes(16384))
        except (TimeoutError, ssl.SSLError, ConnectionError):
            pass
    print("held", flush=True)
    sys.stdin.readline()


def line_of(stream):
    line = b""
    while not line.endswith(b"\n"):
        more = stream.recv(1)
        assert more, f"an end after {line}"
        line += more
    return line.decode()


def show(stream, line):
    """Prints the greeting, and what this side knows of the connection."""
    ours = {
        "version": stream.version(),
        "cipher": stream.cipher()[0],
        "resumed": stream.session_reused,
        "address": "%s:%d" % stream.getsockname(),
    }
    print(json.dumps({"line": json.loads(line), "ours": ours}))


def greetings():
    """Both versions, the second time resumed; then one that asks for no name and names protocols."""
    for version in VERSIONS:
        made, session = context(version), None
        for _ in range(2):
            stream = connect(made, session=session)
            show(stream, line_of(stream))
            echo(stream, b"and then an echo" * 1000)
            session = stream.session
            stream.unwrap()
    made = context()
    made.set_alpn_protocols(["echo"])
    stream = made.wrap_socket(tcp(), server_hostname="127.0.0.1")
    show(stream, line_of(stream))
    assert stream.selected_alpn_protocol() is None
    stream.unwrap()


def greeting():
    stream = connect(context())
    show(stream, line_of(stream))
    echo(stream, b"and then an echo")
    stream.unwrap()


def greeting_first():
    """What comes in one segment with the end of the handshake, and with a PROXY header before it, is
    echoed behind the greeting."""
    for version in VERSIONS:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context(version).wrap_bio(incoming, outgoing, server_hostname="localhost")
        plain, first, data = connected(), HEADER, b"sent early"
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                plain.sendall(first + outgoing.read())
                first = b""
                incoming.write(plain.recv(65536))
        tls.write(data)
        plain.sendall(outgoing.read())
        received = b""
        while not received.endswith(data):
            try:
                received += tls.read(65536)
            except ssl.SSLWantReadError:
                more = plain.recv(65536)
                assert more, f"an end after {received}"
                incoming.write(more)
        line, _, rest = received.partition(b"\n")
        assert rest == data, received
        print(line.decode())
        plain.close()


def nothing():
    """The peer ends in order what is no header, without a word."""
    answered = tcp().recv(65536)
    assert answered == b"", answered


def delayed():
    """Each answer comes 50 ms later, and behind the third comes an end in order."""
    for version in VERSIONS:
        with connect(context(version)) as stream:
            for _ in range(3):
                begin = time.monotonic()
                stream.sendall(b"how long?")
                assert receive(stream, 9) == b"how long?"
                assert time.monotonic() - begin >= 0.05
            assert stream.recv(1) == b""


def delayed_end():
    """An answer that is held back at our close_notify comes behind it, and then the peer's. By TLS 1.2 a
    close_notify has to be answered at once (RFC 5246, 7.2.1)."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context(ssl.TLSVersion.TLSv1_3).wrap_bio(incoming, outgoing, server_hostname="localhost")
    plain = tcp()
    while True:
        try:
            tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            plain.sendall(outgoing.read())
            incoming.write(plain.recv(65536))
    tls.write(b"the last words")
    try:
        tls.unwrap()
    except (ssl.SSLWantReadError, ssl.SSLError):
        pass  # The close_notify is in `outgoing`.
    plain.sendall(outgoing.read())
    received = b""
    while True:
        try:
            more = tls.read(65536)
            if not more:
                break
            received += more
        except ssl.SSLZeroReturnError:
            break
        except ssl.SSLWantReadError:
            more = plain.recv(65536)
            assert more, "an end without close_notify"
            incoming.write(more)
    assert received == b"the last words", received


def twice_and_corrupt():
    """The answer comes twice, each time with the same bit changed."""
    for version in VERSIONS:
        with connect(context(version)) as stream:
            stream.sendall(b"what?")
            answer = receive(stream, 10)
            assert answer[:5] == answer[5:], answer
            changed = [bin(a ^ b).count("1") for a, b in zip(answer, b"what?")]
            assert sum(changed) == 1, answer


def reset():
    """A reset comes instead of the answer. The module takes one for an end, so the socket is asked."""
    for version in VERSIONS:
        plain = tcp()
        below = plain.dup()
        with context(version).wrap_socket(plain, server_hostname="localhost") as stream:
            stream.sendall(b"anybody?")
            try:
                while below.recv(65536):
                    pass
                raise AssertionError("an end in order")
            except ConnectionResetError:
                pass
            below.close()


globals()[TASK]()
