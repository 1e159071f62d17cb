//! monoio's echo server as its documentation writes it, on its epoll driver (`epoll`) or on io_uring
//! (`uring`).

use std::io;

use echomark_peers::{BACKLOG, BUFFER_LEN, announce, raise_descriptor_limit, variant};
use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::{ListenerOpts, TcpListener, TcpStream};
use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};

fn main() -> io::Result<()> {
    raise_descriptor_limit()?;
    match variant(&["epoll", "uring"]) {
        "epoll" => RuntimeBuilder::<LegacyDriver>::new()
            .build()?
            .block_on(serve()),
        _ => RuntimeBuilder::<IoUringDriver>::new()
            .build()?
            .block_on(serve()),
    }
}

async fn serve() -> io::Result<()> {
    let options = ListenerOpts::new().backlog(BACKLOG);
    let listener = TcpListener::bind_with_config(("127.0.0.1", 0), &options)?;
    announce("tcp", listener.local_addr()?.port());
    loop {
        let (stream, _) = listener.accept().await?;
        monoio::spawn(echo(stream));
    }
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(BUFFER_LEN);
    let mut result;
    loop {
        (result, buffer) = stream.read(buffer).await;
        if result? == 0 {
            return Ok(());
        }
        (result, buffer) = stream.write_all(buffer).await;
        result?;
        buffer.clear();
    }
}
