//! UDP servers that treat each datagram in a known way.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use echomark::net::endpoint::Endpoint;
use loadgen::plan::Target;

/// A UDP server with a thread that treats each datagram by `behavior`.
pub(crate) struct UdpServer {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

/// A datagram, its sender, and its number in order of arrival.
pub(crate) struct Datagram<'a> {
    pub(crate) socket: &'a UdpSocket,
    pub(crate) from: SocketAddr,
    pub(crate) number: u64,
    pub(crate) bytes: &'a mut [u8],
}

impl Datagram<'_> {
    /// Sends it back.
    pub(crate) fn answer(&self) {
        self.send(self.bytes);
    }

    /// Sends something else to its sender.
    pub(crate) fn send(&self, bytes: &[u8]) {
        self.socket.send_to(bytes, self.from).unwrap();
    }

    /// Sends it back with one bit changed.
    pub(crate) fn answer_flipped(&self, byte: usize, bit: u8) {
        let mut copy = self.bytes.to_vec();
        copy[byte] ^= 1 << bit;
        self.send(&copy);
    }
}

impl UdpServer {
    pub(crate) fn start(mut behavior: impl FnMut(Datagram<'_>) + Send + 'static) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        // Nothing may be lost but what the behaviour loses.
        socket2::SockRef::from(&socket)
            .set_recv_buffer_size(4 << 20)
            .unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                let mut buffer = vec![0; 64 << 10];
                let mut number = 0;
                while let Ok((count, from)) = socket.recv_from(&mut buffer) {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    behavior(Datagram {
                        socket: &socket,
                        from,
                        number,
                        bytes: &mut buffer[..count],
                    });
                    number += 1;
                }
            })
        };
        Self {
            address,
            stop,
            thread: Some(thread),
        }
    }

    pub(crate) fn target(&self) -> Target {
        Target::Servers {
            targets: vec![Endpoint::Udp(self.address.into())],
        }
    }
}

impl Drop for UdpServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the thread.
        let waker = UdpSocket::bind("127.0.0.1:0").unwrap();
        let _ = waker.send_to(&[], self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
