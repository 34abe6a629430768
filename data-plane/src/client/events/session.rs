//! The stream of an HTTP+SSE session: opened, greeted, read, and opened anew.

use std::{pin::pin, time::Duration};

use bytes::Bytes;
use http::Uri;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::{Running, Way};
use crate::{
    client::{
        carry::is_response_to,
        events::waiting::Heard,
        remote::STEP,
        repeat::{Repeat, pause},
        wishes::{Say, WISHES_FIRST, is_answer},
    },
    mcp::{Kind, Message},
    upstream::{Bounds, CallFailure, EventReader, INITIALIZED, error_of, sse::SseEvent},
};

/// What is said of wishes that come to nothing.
const NOT_TAKEN: &str = "the new stream does not take what the old did";
/// How long the first event may take once the stream is there.
const ENDPOINT_TIMEOUT: Duration = Duration::from_secs(10);

impl Running {
    /// Keeps a stream open for ever.
    pub(super) async fn stream(&self) {
        let (mut failures, mut asked_ms) = (0, None);
        loop {
            let failure = match self.session(&mut asked_ms).await {
                Ok(()) => CallFailure::Broken("it ended its event stream".to_owned()),
                Err(failure) => failure,
            };
            let was_open = matches!(*self.way.borrow(), Way::Open(_));
            if was_open {
                failures = 0;
            }
            failures += 1;
            let due = Instant::now() + pause(asked_ms, failures);
            // Who refuses to begin anew what it took before may not be ready yet.
            let may_come = was_open
                || matches!(
                    failure,
                    CallFailure::Unreachable(_)
                        | CallFailure::Broken(_)
                        | CallFailure::Initialize(_)
                );
            let next = if may_come { Way::Opening { due } } else { Way::Refused(failure.clone()) };
            self.way.send_replace(next);
            tracing::info!(%failure, "no event stream: trying again");
            self.lose(&failure).await;
            tokio::time::sleep_until(due).await;
        }
    }

    /// Answers of posted requests went with their stream.
    async fn lose(&self, failure: &CallFailure) {
        let lost = self.waiting.lock().lose_posted();
        for (id, reply) in lost {
            reply.fail(&id, failure).await;
        }
    }

    /// One stream from its begin to its end. `asked_ms` is what a server last asked to be left
    /// alone for.
    async fn session(&self, asked_ms: &mut Option<u64>) -> Result<(), CallFailure> {
        let mut stream = self.open().await?;
        let ended = self.follow(&mut stream).await;
        *asked_ms = stream.decoder().retry_ms.or(*asked_ms);
        ended
    }

    async fn follow(&self, stream: &mut EventReader<Incoming>) -> Result<(), CallFailure> {
        let first = Bounds::of_step(&self.remote.limits, ENDPOINT_TIMEOUT);
        let target = first.within(stream.endpoint(&self.remote.uri)).await??;
        let is_new = self.greet(stream, &target).await?;
        let reading = async {
            while let Some(event) = stream.next().await? {
                self.hear(event).await;
            }
            Ok(())
        };
        let telling = async {
            let wishing = async {
                if is_new {
                    self.wish_again(&target).await;
                }
            };
            let mut wishing = pin!(wishing);
            let first = tokio::time::timeout(WISHES_FIRST, &mut wishing).await;
            self.way.send_replace(Way::Open(target.clone()));
            if first.is_err() {
                wishing.await;
            }
            std::future::pending().await
        };
        tokio::select! {
            ended = reading => ended,
            never = telling => never,
        }
    }

    /// Says again what the client wants to hear of, and tells it what it may have missed.
    async fn wish_again(&self, target: &Uri) {
        let mut again = self.remote.wishes.lock().again();
        // What is taken is not done yet: only the answer says that.
        let mut is_answering = true;
        self.said_again.send_replace(Bytes::new());
        loop {
            let next = again.next(&self.remote.wishes.lock());
            match next {
                Some(Say::Server(message)) => {
                    let id = message.id_bytes();
                    let posted =
                        self.post_to(target.clone(), message.into_body(), Repeat::IfBroken);
                    match posted.await {
                        Ok(()) if is_answering => is_answering = self.is_answered(&id).await,
                        Ok(()) => {}
                        Err(failure) => {
                            tracing::warn!(%failure, "{NOT_TAKEN}");
                        }
                    }
                }
                Some(Say::Client(told)) => self.client.say(told).await,
                None => return,
            }
        }
    }

    /// Waits for the answer to what was said again; false if it does not come.
    async fn is_answered(&self, id: &Bytes) -> bool {
        let mut answered = self.said_again.subscribe();
        let answer = answered.wait_for(|answered| answered == id);
        tokio::time::timeout(WISHES_FIRST, answer).await.is_ok()
    }

    async fn open(&self) -> Result<EventReader<Incoming>, CallFailure> {
        let bounds = Bounds::of_step(&self.remote.limits, STEP);
        let headers = self.remote.template.clone();
        let response = self.remote.listen_at(headers, None, &bounds).await?;
        EventReader::of(response, &bounds).await
    }

    /// Begins again with what the client said first, if it said so on an earlier stream; whether it
    /// did.
    async fn greet(
        &self,
        stream: &mut EventReader<Incoming>,
        target: &Uri,
    ) -> Result<bool, CallFailure> {
        let Some(hello) = self.waiting.lock().hello() else { return Ok(false) };
        let bounds = Bounds::of_step(&self.remote.limits, STEP);
        let answered = async {
            while let Some(event) = stream.next().await? {
                let is_answer = |message: &Message| is_response_to(&hello, message);
                if let Some(answer) = self.hear_all_but(event, is_answer).await {
                    return Ok(answer);
                }
            }
            Err(CallFailure::NoResponse)
        };
        let posted = self.post_to(target.clone(), hello.body().clone(), Repeat::IfUnsent);
        let ((), answer) = bounds.within(async { tokio::try_join!(posted, answered) }).await??;
        if let Some(error) = error_of(&answer) {
            let text = format!("error {}: {}", error.code, error.message);
            return Err(CallFailure::Initialize(text));
        }
        let initialized = Bytes::from_static(INITIALIZED.as_bytes());
        self.post_to(target.clone(), initialized, Repeat::IfBroken).await?;
        Ok(true)
    }

    async fn hear(&self, event: SseEvent) {
        self.hear_all_but(event, |_| false).await;
    }

    /// Hands out messages, unless they answer what nobody waits for; gives the one that was meant
    /// for ourselves.
    async fn hear_all_but(
        &self,
        event: SseEvent,
        is_ours: impl Fn(&Message) -> bool,
    ) -> Option<Message> {
        if !event.is_message() {
            return None;
        }
        let mut ours = None;
        for message in self.client.readable(event.data).await {
            if is_ours(&message) {
                ours = Some(message);
            } else {
                self.hear_one(message).await;
            }
        }
        ours
    }

    async fn hear_one(&self, message: Message) {
        if !matches!(message.kind, Kind::Response(_)) {
            return self.client.say(message.into_body()).await;
        }
        if is_answer(&message) {
            if let Some(error) = error_of(&message) {
                tracing::warn!(refused = %error.message, "{NOT_TAKEN}");
            }
            self.said_again.send_replace(message.id_bytes());
            return;
        }
        let heard = self.waiting.lock().hear(&message);
        match heard {
            Heard::Awaited(reply) => reply.answer(message.into_body()).await,
            Heard::Late => {}
            Heard::Unknown => self.client.say(message.into_body()).await,
        }
    }
}
