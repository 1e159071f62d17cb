//! Connections that begin with a PROXY header: until it has come they are served nothing, and what it
//! says decides whether they are served.

use std::net::IpAddr;

use super::{Connections, Entry, Introduction, Unidentified};
use crate::conn::header::{Found, Left, MayStay};
use crate::metrics::{CloseReason, ProxyError, RefuseReason};
use crate::net::readiness::Readiness;
use crate::net::stream::Stream;
use crate::proxy_protocol::{Addresses, Header, MAX_HEADER_LEN};
use crate::reactor::context::Context;
use crate::reactor::kernel::Kernel;
use crate::reactor::token::Deadline;
use crate::service::Service;

impl<S: Stream> Connections<S> {
    /// Begins to wait for the header of a new connection.
    pub(super) fn await_header<K>(
        &mut self,
        key: usize,
        service: Service,
        sender: Option<IpAddr>,
        introduction: Introduction,
        cx: &mut Context<K>,
    ) where
        K: Kernel<Stream = S>,
    {
        let since_ms = cx.now_ms();
        if let Some(Entry {
            limited: Some(limited),
            ..
        }) = self.table.get_mut(key)
        {
            limited[0].unidentified = Some(Unidentified {
                service,
                sender,
                introduction,
                since_ms,
                header: Left::default(),
            });
        }
        if cx.rules.handshake_ms.is_some() {
            self.expire_header(key, cx);
        } else if !cx.rules.timeouts.is_empty() {
            self.start_timeouts(key, cx);
        }
    }

    /// Handles the deadline of a header.
    pub(super) fn expire_header<K>(&mut self, key: usize, cx: &mut Context<K>)
    where
        K: Kernel<Stream = S>,
    {
        let (Some(waiting), Some(limit_ms)) = (self.unidentified(key), cx.rules.handshake_ms)
        else {
            return;
        };
        let deadline = waiting.since_ms.saturating_add(limit_ms);
        if cx.now_ms() < deadline {
            cx.timers.arm(Deadline::Conn(key).id(), deadline);
        } else if waiting.introduction == Introduction::MayCome {
            self.serve_sender(key, waiting, cx);
        } else {
            self.fail_header(key, ProxyError::Timeout, cx);
        }
    }

    /// Looks for the header of a connection that waits for it.
    #[cold]
    pub(super) fn look_for_header<K>(&mut self, key: usize, cx: &mut Context<K>)
    where
        K: Kernel<Stream = S>,
    {
        let Some(mut waiting) = self.unidentified(key) else {
            return;
        };
        let Some(Entry { conn, limited }) = self.table.get_mut(key) else {
            return;
        };
        let is_plain = limited
            .as_deref()
            .is_none_or(|[it]| it.tls.is_none() && it.faults.is_none());
        let may_stay = match waiting.service {
            Service::Echo if is_plain => MayStay::Yes,
            _ => MayStay::No,
        };
        let mut buffer = [0; MAX_HEADER_LEN];
        match conn.find_header(&mut buffer, may_stay) {
            Found::NotYet => {}
            Found::Header(header, left) => {
                waiting.header = left;
                cx.metrics.proxy_headers(header.version).add(1);
                match header.addresses {
                    Some(Addresses { client, .. }) => {
                        self.serve_client(key, waiting, client.ip(), Some(&header), cx);
                    }
                    // It is the proxy's own connection, or the proxy may not say whose.
                    None => self.begin(key, waiting, None, cx),
                }
            }
            Found::Other if waiting.introduction == Introduction::MayCome => {
                self.serve_sender(key, waiting, cx);
            }
            Found::Other => self.fail_header(key, ProxyError::Missing, cx),
            // That of a client that has not sent anything is no mistake where no header need come.
            Found::Failed(ProxyError::NoData | ProxyError::Truncated)
                if waiting.introduction == Introduction::MayCome =>
            {
                self.serve_sender(key, waiting, cx);
            }
            Found::Failed(error) => self.fail_header(key, error, cx),
            Found::Ended(next) => self.follow(key, next, cx),
        }
    }

    fn unidentified(&mut self, key: usize) -> Option<Unidentified> {
        let entry = self.table.get_mut(key)?;
        let is_waiting = entry.conn.is_awaiting_header();
        let limited = entry.limited.as_ref()?;
        limited[0].unidentified.filter(|_| is_waiting)
    }

    /// Serves a connection that has no header, for its sender.
    fn serve_sender<K>(&mut self, key: usize, waiting: Unidentified, cx: &mut Context<K>)
    where
        K: Kernel<Stream = S>,
    {
        if let Some(entry) = self.table.get_mut(key) {
            // What it sent instead of a header was only looked at.
            entry.conn.note(Readiness::READABLE);
        }
        match waiting.sender {
            Some(sender) => self.serve_client(key, waiting, sender, None, cx),
            None => self.begin(key, waiting, None, cx),
        }
    }

    /// Serves a connection for a client, if the limits and access lists let it.
    fn serve_client<K>(
        &mut self,
        key: usize,
        waiting: Unidentified,
        client: IpAddr,
        header: Option<&Header<'_>>,
        cx: &mut Context<K>,
    ) where
        K: Kernel<Stream = S>,
    {
        match self.identify(key, client, cx) {
            Ok(()) => self.begin(key, waiting, header, cx),
            Err(reason) => {
                cx.metrics.refused(reason).add(1);
                cx.log_refusal(Some(client), reason);
                self.linger(key, CloseReason::ProxyHeader, cx);
            }
        }
    }

    fn identify<K: Kernel>(
        &mut self,
        key: usize,
        client: IpAddr,
        cx: &mut Context<K>,
    ) -> Result<(), RefuseReason> {
        let entry = self.table.get_mut(key);
        let Some(limited) = entry.and_then(|it| it.limited.as_mut()) else {
            return Err(RefuseReason::Resources);
        };
        cx.identify(&mut limited[0].permit, client)
    }

    /// Starts the service of a connection whose client is known.
    fn begin<K>(
        &mut self,
        key: usize,
        waiting: Unidentified,
        header: Option<&Header<'_>>,
        cx: &mut Context<K>,
    ) where
        K: Kernel<Stream = S>,
    {
        let service = waiting.service;
        let Some(Entry { conn, limited }) = self.table.get_mut(key) else {
            return;
        };
        conn.begin(service, waiting.header);
        let mut is_secured = false;
        if let Some([limited]) = limited.as_deref_mut() {
            limited.unidentified = None;
            if let Some([secured]) = limited.tls.as_deref_mut() {
                is_secured = true;
                secured.begin(conn.readiness(), cx.rules.handshake_ms, cx.now_ms());
            }
        }
        cx.timers.cancel(Deadline::Conn(key).id());
        if !cx.rules.timeouts.is_empty() {
            self.start_timeouts(key, cx);
        } else if is_secured {
            self.expire(key, cx);
        }
        if service == Service::Whoami {
            self.greet(key, header, cx);
        }
        // What came with the header raises no further event.
        if self.is_served(key) {
            self.serve_late(key, Readiness::NONE, cx);
        }
    }

    fn fail_header<K>(&mut self, key: usize, error: ProxyError, cx: &mut Context<K>)
    where
        K: Kernel<Stream = S>,
    {
        cx.metrics.proxy_errors(error).add(1);
        cx.log_proxy_error(error);
        self.linger(key, CloseReason::ProxyHeader, cx);
    }
}
