//! Whoami over UDP: the line answers each datagram that is at least as long, so that a forged source
//! gets no more than was sent.

use std::net::SocketAddr;
use std::sync::Arc;

use super::Datagrams;
use super::socket::DatagramSocket;
use crate::memory::allocation::try_reserve_text;
use crate::metrics::{DropReason, WorkerMetrics};
use crate::net::datagram::{Batch, Destination};
use crate::service::whoami::{Asked, Whoami};

/// What a socket says of its server.
#[derive(Debug)]
pub(super) struct Teller {
    whoami: Arc<Whoami>,
    worker: usize,
    line: String,
}

impl<S: DatagramSocket> Datagrams<S> {
    /// The same socket, which says this of its server if that is its service.
    pub(crate) fn telling(mut self, whoami: &Arc<Whoami>, worker: usize) -> Self {
        self.teller = Some(Teller {
            whoami: Arc::clone(whoami),
            worker,
            line: String::new(),
        });
        self
    }

    /// Marks the answers to the first `granted` datagrams in slot `index`.
    pub(super) fn tell(
        &mut self,
        index: usize,
        granted: usize,
        destination: Option<Destination>,
        batch: &mut Batch,
        metrics: &WorkerMetrics,
    ) {
        let Some(teller) = &mut self.teller else {
            return;
        };
        let datagram = batch.datagram(index);
        teller.line.clear();
        if try_reserve_text(&mut teller.line, teller.whoami.max_len()).is_err() {
            metrics.udp_dropped(DropReason::Memory).add(granted as u64);
            return;
        }
        let port = self.socket.local_port();
        let asked = Asked {
            worker: teller.worker,
            client: Some(datagram.source),
            server: destination.and_then(|it| Some(SocketAddr::new(it.address, port?))),
            proxied: None,
            tls: None,
        };
        teller.whoami.write(asked, &mut teller.line);
        let len = datagram.payload.len().min(granted * datagram.segment_len);
        let fitting = count_as_long(teller.line.len(), len, datagram.segment_len);
        if fitting > 0 {
            batch.answer_with_copies(index, teller.line.as_bytes(), fitting);
        }
        let short = granted.saturating_sub(fitting) as u64;
        if short > 0 {
            metrics.udp_dropped(DropReason::TooShort).add(short);
        }
    }
}

/// How many of the datagrams in `len` bytes, all but the last of `segment_len`, have `least` bytes.
fn count_as_long(least: usize, len: usize, segment_len: usize) -> usize {
    if segment_len < least || segment_len == 0 {
        return 0;
    }
    len / segment_len + usize::from(len % segment_len >= least)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_datagrams_that_are_as_long_count() {
        assert_eq!(count_as_long(100, 100, 100), 1);
        assert_eq!(count_as_long(101, 100, 100), 0);
        assert_eq!(count_as_long(100, 450, 200), 2);
        assert_eq!(count_as_long(50, 450, 200), 3);
        assert_eq!(count_as_long(1, 0, 0), 0);
    }
}
