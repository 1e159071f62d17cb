//! New connections: admitted with all that they need, or refused.

use std::io;

use tracing::{debug, field};

use super::{Admitted, Connections, Entry, Introduction, Limited, MAX_REFUSED_LINGERING, Security};
use crate::admission::Permit;
use crate::conn::Conn;
use crate::conn::faulty::Faulty;
use crate::memory::allocation::{
    OutOfMemory, try_box, try_reserve, try_reserve_queue, try_reserve_slab,
};
use crate::metrics::{CloseReason, RefuseReason};
use crate::net::stream::Stream;
use crate::reactor::context::Context;
use crate::reactor::kernel::Kernel;
use crate::reactor::token::Deadline;
use crate::service::Service;

impl<S: Stream> Connections<S> {
    /// Adds an admitted connection.
    ///
    /// # Errors
    /// What kept it from being served: it is refused, and the next would be too.
    pub(in crate::reactor) fn open<K>(
        &mut self,
        admitted: Admitted<S>,
        cx: &mut Context<K>,
    ) -> io::Result<()>
    where
        K: Kernel<Stream = S>,
    {
        let Admitted {
            stream,
            endpoint,
            service,
            security,
            permit,
            peer,
            introduction,
            faults,
        } = admitted;
        let is_limited = permit != Permit::default()
            || !cx.rules.timeouts.is_empty()
            || introduction != Introduction::None
            || faults.is_some();
        let limited = match security {
            Security::None => Ok(is_limited.then(Limited::default)),
            Security::Tls => Limited::secured(service, faults.as_ref(), cx).map(Some),
        };
        let limited = limited.and_then(|it| Ok(with_faults(it, faults)?));
        let limited = match limited {
            Ok(limited) => limited,
            Err(error) => {
                self.refuse_for_lack(stream, permit, cx);
                return Err(error);
            }
        };
        let conn = match introduction {
            Introduction::None => Conn::new(stream, service),
            Introduction::MayCome | Introduction::MustCome => Conn::awaiting_header(stream),
        };
        match self.insert(conn, limited, cx) {
            Ok(key) => {
                cx.metrics.accepted.add(1);
                cx.control.arrivals(cx.index, endpoint).add(1);
                let shown = peer.map(field::display);
                debug!(worker = cx.index, connection = key, %service, peer = shown, "connection opened");
                cx.metrics.active.add(1);
                let entry = self.table.get_mut(key);
                if let Some(limited) = entry.and_then(|it| it.limited.as_mut()) {
                    limited[0].permit = permit;
                }
                if introduction == Introduction::None {
                    self.begin_at_once(key, service, security, cx);
                } else {
                    self.await_header(key, service, peer, introduction, cx);
                }
                Ok(())
            }
            Err((conn, error)) => {
                self.refuse_for_lack(conn.into_stream(), permit, cx);
                Err(error)
            }
        }
    }

    /// Begins the service, or the handshake before it, of a connection that needs no header.
    fn begin_at_once<K>(
        &mut self,
        key: usize,
        service: Service,
        security: Security,
        cx: &mut Context<K>,
    ) where
        K: Kernel<Stream = S>,
    {
        if !cx.rules.timeouts.is_empty() {
            self.start_timeouts(key, cx);
        } else if security == Security::Tls {
            self.expire(key, cx);
        }
        if service == Service::Whoami {
            self.greet(key, None, cx);
        }
    }

    fn refuse_for_lack<K: Kernel>(&mut self, stream: S, permit: Permit, cx: &Context<K>) {
        cx.metrics.refused(RefuseReason::Resources).add(1);
        cx.control.admission.release(permit);
        self.end_at_once(stream);
    }

    /// Closes a refused connection such that its peer reads an end and not a reset.
    pub(in crate::reactor) fn refuse<K>(
        &mut self,
        stream: S,
        reason: RefuseReason,
        cx: &mut Context<K>,
    ) where
        K: Kernel<Stream = S>,
    {
        cx.metrics.refused(reason).add(1);
        if self.refused_lingering >= MAX_REFUSED_LINGERING {
            self.end_at_once(stream);
            return;
        }
        match self.insert(Conn::new(stream, Service::Discard), None, cx) {
            Ok(key) => {
                self.refused_lingering += 1;
                self.linger(key, CloseReason::Refused, cx);
            }
            Err((conn, _)) => self.end_at_once(conn.into_stream()),
        }
    }

    /// Closes a connection that was not served.
    fn end_at_once(&mut self, mut stream: S) {
        // If one of these fails, the peer is gone already. Its input is read first, so that closing
        // does not reset the connection.
        let _ = stream.shutdown_write();
        let _ = stream.discard(self.scratch.whole());
    }

    /// Assigns a key to a connection and registers it, once, for all events.
    fn insert<K>(
        &mut self,
        mut conn: Conn<S>,
        limited: Option<Limited>,
        cx: &mut Context<K>,
    ) -> Result<usize, (Conn<S>, io::Error)>
    where
        K: Kernel<Stream = S>,
    {
        let prepared = self.try_reserve(cx).and_then(|key| {
            let limited = limited.map(try_box).transpose()?;
            Ok((key, limited))
        });
        let (key, limited) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return Err((conn, error.into())),
        };
        if let Err(error) = cx.kernel.register(conn.stream_mut(), key) {
            return Err((conn, error));
        }
        self.table.insert(Entry { conn, limited });
        Ok(key)
    }

    /// Makes room for one more connection, in the table and in what its turns and its end need, and
    /// returns its key. A connection that is open then never has to be closed for want of a list.
    fn try_reserve<K: Kernel>(&mut self, cx: &mut Context<K>) -> Result<usize, OutOfMemory> {
        try_reserve_slab(&mut self.table)?;
        let key = self.table.vacant_key();
        let total = self.table.len() + 1;
        try_reserve(&mut self.closed, total)?;
        try_reserve(&mut self.short_of_memory, total)?;
        try_reserve_queue(&mut self.run_queue, total)?;
        let timers = Deadline::Conn(key).id() + 1;
        cx.timers.try_reserve(timers)?;
        try_reserve(&mut cx.due, timers)?;
        cx.try_reserve_alarm_of_conn(key)?;
        Ok(key)
    }
}

/// The same state with what faults need.
fn with_faults(
    limited: Option<Limited>,
    faults: Option<Faulty>,
) -> Result<Option<Limited>, OutOfMemory> {
    let faults = faults.map(try_box).transpose()?;
    Ok(limited.map(|it| Limited { faults, ..it }))
}
