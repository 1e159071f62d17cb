//! Urgent data (RFC 6093) is echoed in its place in the stream, and data behind it needs no further
//! event.

use echomark::Server;

use crate::support::{Client, Running, addresses, config};

#[test]
fn an_urgent_byte_among_others_comes_back_in_its_place() {
    const ROUNDS: usize = 300;
    let server = Running::start(config());
    let mut client = server.connect();
    for _ in 0..ROUNDS {
        client.send(b"abc");
        client.send_urgent(b"X");
        client.send(b"def");
        assert_eq!(client.receive(7), b"abcXdef");
    }
    client.half_close();
    client.expect_end();
}

#[test]
fn urgent_bytes_in_a_row_come_back() {
    const ROUNDS: usize = 100;
    let server = Running::start(config());
    let mut client = server.connect();
    for _ in 0..ROUNDS {
        client.send_urgent(b"1");
        client.send_urgent(b"2");
        client.send(b"ab");
        client.send_urgent(b"3");
        client.send_urgent(b"cd4");
        assert_eq!(client.receive(8), b"12ab3cd4");
    }
    client.echo(b"and then as before");
}

/// All input waits in the kernel before the server's first read: a read stops at the mark, and no
/// further event reports the input behind it.
#[test]
fn data_behind_the_mark_needs_no_event_of_its_own() {
    let server = Server::bind(config()).expect("a free port");
    let address = addresses(&server)[0];
    let mut clients: Vec<_> = (0..50)
        .map(|index| {
            let mut client = Client::connect(address);
            client.send(b"abc");
            client.send_urgent(b"X");
            client.send(b"def");
            if index % 2 == 0 {
                client.half_close();
            }
            client
        })
        .collect();
    let server = Running::run(server);
    for (index, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.receive(7), b"abcXdef");
        if index % 2 == 0 {
            client.expect_end();
        } else {
            client.echo(b"more");
        }
    }
    let count = clients.len() as u64;
    drop(clients);
    server.wait_for_all_closed(count);
}

#[test]
fn an_urgent_byte_may_be_the_first_or_the_last() {
    let server = Running::start(config());
    let mut client = server.connect();
    client.send_urgent(b"X");
    assert_eq!(client.receive(1), b"X");
    client.send(b"abc");
    client.send_urgent(b"Y");
    client.half_close();
    assert_eq!(client.receive(4), b"abcY");
    client.expect_end();
}
