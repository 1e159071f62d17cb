"""An echo server by Python's ssl module, which is OpenSSL: a thread for each connection.

Arguments: `close_notify` or `without`, how it ends connections when its client does, or `cut`, without and in the
middle of them; the files of its certificate and its key. Prints its port.
"""

import socket
import ssl
import sys
import threading

ending, certificate, key = sys.argv[1:]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)


def serve(connection):
    try:
        with context.wrap_socket(connection, server_side=True) as stream:
            echoed = 0
            while data := stream.recv(65536):
                stream.sendall(data)
                echoed += len(data)
                if ending == "cut" and echoed > 1000:
                    return
            if ending == "close_notify":
                # The client's came before.
                stream.unwrap().close()
    except (ssl.SSLError, OSError):
        connection.close()


listener = socket.create_server(("127.0.0.1", 0), backlog=128)
print(listener.getsockname()[1], flush=True)
while True:
    threading.Thread(target=serve, args=[listener.accept()[0]], daemon=True).start()
