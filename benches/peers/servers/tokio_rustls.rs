//! An echo by tokio-rustls as its documentation writes it, on the current-thread runtime.

use std::io;

use echomark_peers::{BUFFER_LEN, announce, raise_descriptor_limit, tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio_rustls::TlsAcceptor;

fn main() -> io::Result<()> {
    raise_descriptor_limit()?;
    let runtime = Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async { tokio::spawn(serve()).await? })
}

async fn serve() -> io::Result<()> {
    let acceptor = TlsAcceptor::from(tls::server_config()?);
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    announce("tls", listener.local_addr()?.port());
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(echo(acceptor.clone(), stream));
    }
}

async fn echo(acceptor: TlsAcceptor, stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = acceptor.accept(stream).await?;
    let mut buffer = Vec::with_capacity(BUFFER_LEN);
    loop {
        if stream.read_buf(&mut buffer).await? == 0 {
            return stream.shutdown().await;
        }
        stream.write_all(&buffer).await?;
        // Its writes wait for a flush.
        stream.flush().await?;
        buffer.clear();
    }
}
