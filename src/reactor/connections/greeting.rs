//! The line by which a whoami begins: at once, or, with TLS, behind the handshake, whose outcome it tells.

use super::{Connections, Entry};
use crate::conn::scratch::Scratch;
use crate::conn::{Conn, Next};
use crate::memory::allocation::{OutOfMemory, try_reserve_text};
use crate::metrics::CloseReason;
use crate::net::stream::Stream;
use crate::proxy_protocol::{Addresses, Begin, Header, parse};
use crate::reactor::context::Context;
use crate::reactor::kernel::Kernel;
use crate::reactor::secured::{Lent, Secured};
use crate::service::whoami::{Asked, Proxied, Tls};

impl<S: Stream> Connections<S> {
    /// Sends the line of whoami, or keeps what it takes until the handshake is complete.
    pub(super) fn greet<K>(&mut self, key: usize, header: Option<&Header<'_>>, cx: &mut Context<K>)
    where
        K: Kernel<Stream = S>,
    {
        let Some(entry) = self.table.get_mut(key) else {
            return;
        };
        if let Some((_, secured, _)) = entry.secured() {
            let kept = header.map_or(Ok(()), |header| secured.keep_header(header.bytes));
            if kept.is_err() {
                self.close(key, CloseReason::Memory);
            }
            return;
        }
        let Entry { conn, .. } = entry;
        let Ok(line) = line(conn, header, None, cx) else {
            self.close(key, CloseReason::Memory);
            return;
        };
        let next = conn.greet(line.as_bytes(), &mut self.scratch, &cx.metrics);
        if next != Next::Wait {
            self.follow(key, next, cx);
        }
    }
}

/// Completes the handshake of a connection with TLS and sends the line, if it is a whoami's that has not
/// sent it. `None` if the service may go on.
pub(super) fn greet_secured<S, K>(
    conn: &mut Conn<S>,
    secured: &mut Secured,
    lent: &mut Lent,
    scratch: &mut Scratch<S::Pipe>,
    cx: &Context<K>,
) -> Option<Next>
where
    S: Stream,
    K: Kernel<Stream = S>,
{
    if conn.lingering().is_some() || secured.greeting.is_none() {
        return None;
    }
    let handshake = conn.over(
        |socket| secured.over(socket, lent),
        |conn| match conn.stream_mut().handshake() {
            Ok(()) => None,
            outcome => Some(conn.await_handshake(outcome)),
        },
    );
    if handshake.is_some() {
        return handshake;
    }
    let [greeting] = *secured.greeting.take()?;
    let header = match parse(&greeting.header) {
        Ok(Begin::Header(header)) => Some(header),
        _ => None,
    };
    let line = {
        let negotiated = secured.session.negotiated();
        let subject = secured.session.peer_subject();
        let tls = negotiated.as_ref().map(|it| Tls {
            version: it.version,
            cipher: &it.cipher,
            sni: greeting.name.name(),
            alpn: it.alpn,
            client_subject: subject.as_deref(),
            is_resumed: it.is_resumed,
        });
        line(conn, header.as_ref(), tls, cx)
    };
    let Ok(line) = line else {
        conn.close();
        return Some(Next::Close(CloseReason::Memory));
    };
    let next = conn.over(
        |socket| secured.over(socket, lent),
        |conn| conn.greet(line.as_bytes(), scratch, &cx.metrics),
    );
    match next {
        // What the socket did not take is the backlog.
        Next::Wait | Next::Yield => None,
        next => Some(next),
    }
}

fn line<S: Stream, K>(
    conn: &Conn<S>,
    header: Option<&Header<'_>>,
    tls: Option<Tls<'_>>,
    cx: &Context<K>,
) -> Result<String, OutOfMemory> {
    let whoami = &cx.control.whoami;
    let mut line = String::new();
    try_reserve_text(&mut line, whoami.max_len())?;
    let (client, server) = conn.addresses();
    let asked = Asked {
        worker: cx.index,
        client,
        server,
        proxied: header.and_then(|header| {
            let Addresses { client, server } = header.addresses?;
            Some(Proxied {
                version: header.version.name(),
                client,
                server,
                authority: header.authority,
                unique_id: header.unique_id,
            })
        }),
        tls,
    };
    whoami.write(asked, &mut line);
    Ok(line)
}
