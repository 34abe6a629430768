//! Waiting until an upstream is ready or has failed, and saying why.

use std::time::Duration;

use proto::{upstream::FailureReason, wire};

use crate::{
    client::{Client, retrying},
    failure::{Detail, Exit, Failure},
    view,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    UntilDone,
    No,
}

impl From<bool> for Wait {
    /// From `--no-wait`.
    fn from(no_wait: bool) -> Self {
        if no_wait { Self::No } else { Self::UntilDone }
    }
}

/// The upstream once a discovery later than `generation` has ended. A failed one is a
/// failure of the command: the upstream stays registered.
pub(super) async fn until_discovered(
    client: &Client,
    id: &str,
    generation: u64,
) -> Result<wire::Upstream, Failure> {
    let mut pause = Duration::from_millis(50);
    loop {
        let upstream = retrying(|| {
            let mut registry = client.registry();
            let request = wire::GetUpstreamRequest { name: id.to_owned() };
            async move { registry.get_upstream(request).await }
        })
        .await?;
        let status = upstream.status.clone().unwrap_or_default();
        let is_done = status.discovery_generation > generation;
        match status.phase() {
            wire::UpstreamPhase::Ready if is_done => return Ok(upstream),
            wire::UpstreamPhase::Failed if is_done => return Err(failed(&upstream.name, &status)),
            wire::UpstreamPhase::Disabled => return Ok(upstream),
            wire::UpstreamPhase::Unspecified
            | wire::UpstreamPhase::Pending
            | wire::UpstreamPhase::Ready
            | wire::UpstreamPhase::Failed => {}
        }
        if client.deadline().is_over() {
            let seconds = client.deadline().limit().as_secs();
            return Err(Failure::timeout(format!(
                "upstream `{}` is still {} after {seconds} s; it stays registered",
                upstream.name,
                view::phase(status.phase()),
            ))
            .hint(format!("see `lockgate describe upstream {}`", upstream.name)));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(Duration::from_millis(500));
    }
}

/// Where the way to the upstream ended, and what usually helps.
fn failed(name: &str, status: &wire::UpstreamStatus) -> Failure {
    let reason = FailureReason::from_wire(status.reason);
    let word = reason.map_or("unknown", FailureReason::as_str);
    let advice = reason.map_or("", advice);
    // The proxy's text begins with the same name.
    let text =
        status.message.strip_prefix(&format!("upstream `{name}` ")).unwrap_or(&status.message);
    let message = format!("upstream `{name}` failed ({word}): {text}");
    let message = format!("{message}; it stays registered and is tried again");
    let mut failure = Failure::new(Exit::Unavailable, "upstream_failed", message);
    failure.details = vec![
        Detail { field: "phase".to_owned(), message: "failed".to_owned() },
        Detail { field: "reason".to_owned(), message: word.to_owned() },
    ];
    // The sentence has them; details are for programs.
    let hint = format!("{advice}`lockgate refresh upstream {name}` tries now");
    failure.hint(hint)
}

/// What helps on the command line; the proxy's text says the rest.
fn advice(reason: FailureReason) -> &'static str {
    match reason {
        FailureReason::Auth => {
            "`lockgate update upstream NAME --bearer TOKEN` gives a credential; "
        }
        FailureReason::NoProxy => "see `lockgate get proxies` (stdio needs --allow-stdio); ",
        FailureReason::Dns
        | FailureReason::Egress
        | FailureReason::Connect
        | FailureReason::Tls
        | FailureReason::HttpStatus
        | FailureReason::Spawn
        | FailureReason::Initialize
        | FailureReason::List
        | FailureReason::Timeout
        | FailureReason::Incompatible => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_upstream_says_phase_reason_and_what_to_do() {
        let status = wire::UpstreamStatus {
            phase: wire::UpstreamPhase::Failed.into(),
            reason: wire::FailureReason::Connect.into(),
            message: "upstream `everything` cannot be reached: refused".to_owned(),
            ..Default::default()
        };
        let failure = failed("everything", &status);
        assert_eq!(failure.exit, Exit::Unavailable);
        insta::assert_snapshot!(failure, @r"
        upstream `everything` failed (connect): cannot be reached: refused; it stays registered and is tried again
        hint: `lockgate refresh upstream everything` tries now
        ");
    }
}
