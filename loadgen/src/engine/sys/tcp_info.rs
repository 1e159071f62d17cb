//! TCP_INFO: the kernel's view of one TCP connection (tcp(7)).

use std::io;
use std::mem::offset_of;
use std::os::fd::AsFd;

use super::socket_options::read_option;

/// The kernel's view of one TCP connection at one moment.
///
/// Fields of newer kernels are `None` on older ones.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct TcpInfo {
    /// Smoothed round-trip time in microseconds (RFC 6298 SRTT); 0 before the first sample.
    pub(crate) rtt_us: u32,
    /// Mean deviation of the round-trip time in microseconds (RFC 6298 RTTVAR).
    pub(crate) rttvar_us: u32,
    /// The minimum round-trip time in microseconds over a recent period: five minutes by default
    /// (`net.ipv4.tcp_min_rtt_wlen`). `None` also before the first sample. Linux 4.6.
    pub(crate) min_rtt_us: Option<u32>,
    /// The congestion window in packets.
    pub(crate) cwnd: u32,
    /// The slow start threshold in packets; `None` until the first loss or other sign of congestion.
    pub(crate) ssthresh: Option<u32>,
    /// Packets sent, not acknowledged and presumed lost.
    pub(crate) lost: u32,
    /// Packets retransmitted since the connection began.
    pub(crate) total_retrans: u32,
    /// Bytes of data retransmitted. Linux 4.19.
    pub(crate) bytes_retrans: Option<u64>,
    /// Number of reordering events. Linux 4.19.
    pub(crate) reord_seen: Option<u32>,
    /// Duplicate SACKs received (RFC 2883): spurious retransmissions. Linux 4.19.
    pub(crate) dsack_dups: Option<u32>,
    /// Packets received out of order. Linux 5.4.
    pub(crate) rcv_ooopack: Option<u32>,
    /// The last measured delivery rate in bytes per second; 0 before the first sample. Linux 4.9.
    pub(crate) delivery_rate: Option<u64>,
    /// The pacing rate, a limit on the sending rate, in bytes per second; `u64::MAX` without a
    /// limit. Linux 3.15.
    pub(crate) pacing_rate: Option<u64>,
    /// Microseconds with unsent or unacknowledged data. Linux 4.10.
    pub(crate) busy_us: Option<u64>,
    /// Microseconds of `busy_us` limited by the peer's receive window: the peer did not read. Linux
    /// 4.10.
    pub(crate) rwnd_limited_us: Option<u64>,
    /// Microseconds of `busy_us` limited by the send buffer. Linux 4.10.
    pub(crate) sndbuf_limited_us: Option<u64>,
}

/// Reads the TCP_INFO of a connection.
///
/// # Errors
/// The error of getsockopt(2); EOPNOTSUPP or ENOPROTOOPT for a non-TCP socket. `Unsupported` if the
/// kernel returns less than Linux 2.6 did.
pub(crate) fn tcp_info(socket: &impl AsFd) -> io::Result<TcpInfo> {
    let mut layout = Layout::default();
    // SAFETY: the layout consists of integers, for which any bytes are valid.
    let filled = unsafe { read_option(socket, libc::IPPROTO_TCP, libc::TCP_INFO, &mut layout) }?;
    layout
        .info(filled)
        .ok_or_else(|| io::ErrorKind::Unsupported.into())
}

/// `struct tcp_info` of linux/tcp.h as of Linux 5.4. The struct only grows at its end. The kernel
/// fills the fields that both sides know.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
#[allow(dead_code, reason = "the layout is the kernel's, needed or not")]
struct Layout {
    state: u8,
    ca_state: u8,
    retransmits: u8,
    probes: u8,
    backoff: u8,
    options: u8,
    /// snd_wscale and rcv_wscale, four bits each.
    wscales: u8,
    /// delivery_rate_app_limited in one bit, fastopen_client_fail in two.
    flags: u8,
    rto: u32,
    ato: u32,
    snd_mss: u32,
    rcv_mss: u32,
    unacked: u32,
    sacked: u32,
    lost: u32,
    retrans: u32,
    fackets: u32,
    last_data_sent: u32,
    last_ack_sent: u32,
    last_data_recv: u32,
    last_ack_recv: u32,
    pmtu: u32,
    rcv_ssthresh: u32,
    rtt: u32,
    rttvar: u32,
    snd_ssthresh: u32,
    snd_cwnd: u32,
    advmss: u32,
    reordering: u32,
    rcv_rtt: u32,
    rcv_space: u32,
    total_retrans: u32,
    pacing_rate: u64,
    max_pacing_rate: u64,
    bytes_acked: u64,
    bytes_received: u64,
    segs_out: u32,
    segs_in: u32,
    notsent_bytes: u32,
    min_rtt: u32,
    data_segs_in: u32,
    data_segs_out: u32,
    delivery_rate: u64,
    busy_time: u64,
    rwnd_limited: u64,
    sndbuf_limited: u64,
    delivered: u32,
    delivered_ce: u32,
    bytes_sent: u64,
    bytes_retrans: u64,
    dsack_dups: u32,
    reord_seen: u32,
    rcv_ooopack: u32,
}

// Size in the kernel's header, on every architecture that aligns u64 to 4 or 8 bytes.
const _: () = assert!(offset_of!(Layout, pacing_rate) == 104);
const _: () = assert!(offset_of!(Layout, delivery_rate) == 160);
const _: () = assert!(offset_of!(Layout, bytes_sent) == 200);
const _: () = assert!(offset_of!(Layout, rcv_ooopack) == 224);

impl Layout {
    /// Converts the first `filled` bytes; `None` if there are fewer than any kernel fills.
    fn info(&self, filled: usize) -> Option<TcpInfo> {
        /// The value of a field if it was filled completely.
        macro_rules! filled {
            ($field:ident) => {{
                let end = offset_of!(Layout, $field) + size_of_val(&self.$field);
                (filled >= end).then_some(self.$field)
            }};
        }
        Some(TcpInfo {
            total_retrans: filled!(total_retrans)?,
            rtt_us: self.rtt,
            rttvar_us: self.rttvar,
            min_rtt_us: filled!(min_rtt).filter(|&us| us != u32::MAX),
            cwnd: self.snd_cwnd,
            // TCP_INFINITE_SSTHRESH in the kernel's net/tcp.h.
            ssthresh: Some(self.snd_ssthresh).filter(|&packets| packets < 0x7fff_ffff),
            lost: self.lost,
            delivery_rate: filled!(delivery_rate),
            pacing_rate: filled!(pacing_rate),
            bytes_retrans: filled!(bytes_retrans),
            reord_seen: filled!(reord_seen),
            dsack_dups: filled!(dsack_dups),
            rcv_ooopack: filled!(rcv_ooopack),
            busy_us: filled!(busy_time),
            rwnd_limited_us: filled!(rwnd_limited),
            sndbuf_limited_us: filled!(sndbuf_limited),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    fn pair(recv_buffer: Option<usize>) -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        if let Some(bytes) = recv_buffer {
            socket2::SockRef::from(&listener)
                .set_recv_buffer_size(bytes)
                .unwrap();
        }
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    #[test]
    fn an_echo_has_a_round_trip_time_and_loses_nothing() {
        let (mut client, mut server) = pair(None);
        let mut buffer = [7; 1000];
        client.write_all(&buffer).unwrap();
        server.read_exact(&mut buffer).unwrap();
        server.write_all(&buffer).unwrap();
        client.read_exact(&mut buffer).unwrap();

        let info = tcp_info(&client).unwrap();
        assert!(info.rtt_us > 0 && info.rttvar_us > 0 && info.cwnd >= 2);
        assert!(info.min_rtt_us.unwrap() <= info.rtt_us);
        assert!(info.delivery_rate.unwrap() > 0 && info.pacing_rate.unwrap() > 0);
        assert_eq!((info.lost, info.total_retrans), (0, 0));
        assert_eq!(info.bytes_retrans, Some(0));
        assert_eq!((info.dsack_dups, info.rcv_ooopack), (Some(0), Some(0)));
    }

    #[test]
    fn a_receiver_that_does_not_read_limits_the_sender() {
        let (mut client, server) = pair(Some(4 << 10));
        assert_eq!(tcp_info(&client).unwrap().rwnd_limited_us, Some(0));
        client.set_nonblocking(true).unwrap();
        while client.write(&[0; 1 << 16]).is_ok() {}
        let deadline = Instant::now() + Duration::from_secs(60);
        let info = loop {
            let info = tcp_info(&client).unwrap();
            if info.rwnd_limited_us.unwrap() > 1000 {
                break info;
            }
            assert!(Instant::now() < deadline, "{info:?}");
            std::thread::yield_now();
        };
        assert!(info.busy_us >= info.rwnd_limited_us);
        assert_eq!(tcp_info(&server).unwrap().rwnd_limited_us, Some(0));
    }

    #[test]
    fn only_tcp_sockets_have_it() {
        let datagram = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (unix, _peer) = UnixStream::pair().unwrap();
        let errors = [tcp_info(&datagram), tcp_info(&unix)].map(Result::unwrap_err);
        for error in errors {
            let errno = error.raw_os_error();
            assert!(matches!(errno, Some(libc::EOPNOTSUPP | libc::ENOPROTOOPT)));
        }
    }

    #[test]
    fn what_an_older_kernel_does_not_fill_is_none() {
        let layout = Layout {
            total_retrans: 10,
            busy_time: 20,
            bytes_retrans: 30,
            rcv_ooopack: 40,
            ..Layout::default()
        };
        let all = layout.info(size_of::<Layout>()).unwrap();
        assert_eq!((all.total_retrans, all.busy_us), (10, Some(20)));
        assert_eq!((all.bytes_retrans, all.rcv_ooopack), (Some(30), Some(40)));

        // Linux 4.6, before the times.
        let some = layout.info(160).unwrap();
        assert_eq!((some.total_retrans, some.busy_us), (10, None));
        assert_eq!((some.bytes_retrans, some.rcv_ooopack), (None, None));

        // A partly filled field does not count.
        assert_eq!(layout.info(175).unwrap().busy_us, None);
        assert_eq!(layout.info(176).unwrap().busy_us, Some(20));
        assert_eq!(layout.info(103), None);
    }

    #[test]
    fn what_the_kernel_has_not_measured_yet_is_none() {
        let layout = Layout {
            min_rtt: u32::MAX,
            snd_ssthresh: 0x7fff_ffff,
            ..Layout::default()
        };
        let info = layout.info(size_of::<Layout>()).unwrap();
        assert_eq!((info.min_rtt_us, info.ssthresh), (None, None));
        let layout = Layout {
            min_rtt: 20,
            snd_ssthresh: 10,
            ..Layout::default()
        };
        let info = layout.info(size_of::<Layout>()).unwrap();
        assert_eq!((info.min_rtt_us, info.ssthresh), (Some(20), Some(10)));
    }
}
