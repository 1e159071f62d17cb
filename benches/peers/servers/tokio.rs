//! tokio's echo server as its documentation writes it, on the current-thread runtime (`current`) or
//! the multi-threaded one (`multi`), which starts a worker for each processor that it may use.

use std::io;

use echomark_peers::{BUFFER_LEN, announce, raise_descriptor_limit, variant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;

fn main() -> io::Result<()> {
    raise_descriptor_limit()?;
    let runtime = match variant(&["current", "multi"]) {
        "current" => Builder::new_current_thread().enable_io().build()?,
        _ => Builder::new_multi_thread().enable_io().build()?,
    };
    // Accepting is a task among the others, because the thread of `block_on` is not one of the
    // multi-threaded runtime's workers.
    runtime.block_on(async { tokio::spawn(serve()).await? })
}

async fn serve() -> io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    announce("tcp", listener.local_addr()?.port());
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(echo(stream));
    }
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(BUFFER_LEN);
    loop {
        // Unlike `read`, this needs no memory that was written to before.
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        stream.write_all(&buffer).await?;
        buffer.clear();
    }
}
