//! What a listening client hears, as the event stream that answers its request.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::Response;
use tokio::time::{Instant, Sleep};

use super::{body::Body, response, sse};
use crate::{
    edge::Place,
    sessions::listeners::{Heard, Hearing},
};

/// The answer to a `subscriptions/listen`: messages as they come, comments while it is silent.
pub(crate) fn render(hearing: Box<Hearing>, place: Place, interval: Duration) -> Response<Body> {
    let silence = Box::pin(tokio::time::sleep(interval));
    let listening = Listening { hearing, place: Some(place), interval, silence };
    response::event_stream(Body::Open(Box::pin(listening)))
}

struct Listening {
    hearing: Box<Hearing>,
    /// Until its reader is refused.
    place: Option<Place>,
    interval: Duration,
    silence: Pin<Box<Sleep>>,
}

impl futures_util::Stream for Listening {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let this = &mut *self;
        if this.place.as_ref().is_some_and(|place| place.poll_refused(cx).is_ready()) {
            // The next try is told why.
            this.hearing.end();
            this.place = None;
        }
        if let Poll::Ready(heard) = this.hearing.poll_next(cx) {
            this.silence.as_mut().reset(Instant::now() + this.interval);
            return Poll::Ready(heard.map(|heard| match heard {
                Heard::Notice(message) | Heard::Over(message) => sse::encode(&message),
            }));
        }
        ready!(this.silence.as_mut().poll(cx));
        this.silence.as_mut().reset(Instant::now() + this.interval);
        Poll::Ready(Some(sse::COMMENT))
    }
}
