//! An echo server on compio, on io_uring (`uring`) or on its polling driver (`poll`).

use std::io;

use compio::BufResult;
use compio::driver::{DriverType, ProactorBuilder};
use compio::io::{AsyncRead, AsyncWriteExt};
use compio::net::{TcpListener, TcpStream};
use compio::runtime::RuntimeBuilder;
use echomark_peers::{BUFFER_LEN, announce, raise_descriptor_limit, variant};

fn main() -> io::Result<()> {
    raise_descriptor_limit()?;
    let kind = match variant(&["uring", "poll"]) {
        "uring" => DriverType::IoUring,
        _ => DriverType::Poll,
    };
    let mut driver = ProactorBuilder::new();
    driver.driver_type(kind);
    let runtime = RuntimeBuilder::new().with_proactor(driver).build()?;
    runtime.block_on(serve())
}

async fn serve() -> io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    announce("tcp", listener.local_addr()?.port());
    loop {
        let (stream, _) = listener.accept().await?;
        compio::runtime::spawn(echo(stream)).detach();
    }
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(BUFFER_LEN);
    loop {
        buffer.clear();
        let BufResult(result, read) = stream.read(buffer).await;
        if result? == 0 {
            return Ok(());
        }
        let BufResult(result, written) = stream.write_all(read).await;
        result?;
        buffer = written;
    }
}
