//! Carries a link over a WebSocket, and notices when nobody is at the other end.
//!
//! Never a look into what is carried, and never a connection that outlives its credential or its silence.

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use everkept_engine::{Broken, Claim, Clock, Link};
use futures::{SinkExt, StreamExt, future::BoxFuture};
use std::{sync::Arc, time::Duration};

const PING: Duration = Duration::from_secs(10);
/// A relay that has said nothing for so long, not even that it heard a ping, is gone; its name is free.
const SILENCE: Duration = Duration::from_secs(25);
/// For the last word.
const CLOSING: Duration = Duration::from_secs(1);

/// Why a socket is closed by us.
enum Closing {
    /// The server or the credential ended.
    Away,
    Broken(Broken),
    /// The relay closed, or is gone.
    Gone,
}

pub(super) async fn carry(socket: WebSocket, claim: Claim, ending: BoxFuture<'static, ()>, clock: Arc<dyn Clock>) {
    let (mut writer, mut reader) = socket.split();
    let (link, Link { sender, mut receiver }) = Link::pair();
    let writing = async {
        let mut ping = clock.sleep(PING);
        loop {
            let message = tokio::select! {
                biased;
                () = &mut ping => {
                    ping = clock.sleep(PING);
                    Message::Ping(bytes::Bytes::new())
                }
                piece = receiver.recv() => match piece {
                    Some(piece) => Message::text(piece),
                    None => return std::future::pending().await,
                },
            };
            if writer.send(message).await.is_err() {
                return Closing::Gone;
            }
        }
    };
    let reading = async {
        loop {
            let came = tokio::select! {
                biased;
                came = reader.next() => came,
                () = clock.sleep(SILENCE) => return Closing::Gone,
            };
            match came {
                // Whoever read it says how it ended.
                Some(Ok(Message::Text(text))) => _ = sender.send(text.as_str().to_owned()).await,
                Some(Ok(Message::Binary(_))) => return Closing::Broken(Broken::Unreadable("frames are text".into())),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Closing::Gone,
            }
        }
    };
    let closing = tokio::select! {
        biased;
        () = ending => Closing::Away,
        ended = claim.run(link) => match ended {
            Ok(()) => Closing::Gone,
            Err(broken) => Closing::Broken(broken),
        },
        closing = reading => closing,
        closing = writing => closing,
    };
    let (code, reason) = match closing {
        Closing::Away => (close_code::AWAY, "the server or the credential ended".to_owned()),
        Closing::Broken(broken) => {
            tracing::warn!(%broken, "a relay is cut off");
            (close_code::PROTOCOL, broken.to_string())
        }
        Closing::Gone => return,
    };
    let last = writer.send(Message::Close(Some(CloseFrame { code, reason: shortened(reason).into() })));
    // A relay that does not read needs no last word.
    tokio::select! {
        _ = last => {}
        () = clock.sleep(CLOSING) => {}
    }
}

/// A close frame has room for 123 bytes.
fn shortened(mut reason: String) -> String {
    let mut end = reason.len().min(123);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason.truncate(end);
    reason
}
