//! A case: what is measured, as data, and how its ways are addressed.

use serde::Serialize;

use super::client::{Address, Check, Speech};
use super::load::Pace;
use super::message::{self, Era, Message, REST_TOOL, UPSTREAM_TOOL, exposed};

/// The server of which all others are measured, and the two programs beside it.
pub const DIRECT: &str = "direct";
/// What is the least that a proxy can do.
pub const BARE: &str = "bare proxy";
/// What is judged.
pub const LOCKGATE: &str = "Lockgate";

/// What clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// They call a tool of one MCP server.
    Call,
    /// They call tools of so many MCP servers in turns.
    Spread(usize),
    /// They read the list of so many tools.
    List(usize),
    /// They call a tool that is one HTTP request.
    Rest,
    /// They connect, begin a session, call once, end the session and go.
    Cycle,
}

/// How the upstream answers calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// As one JSON object.
    Json,
    /// As an event stream of one event.
    Events,
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// CPU time of the proxy per call.
    Cpu,
    /// Calls per CPU second of the proxy.
    CallsPerCpu,
    /// Calls per second.
    Rate,
    /// Bytes of bodies per second, both ways.
    Bytes,
    /// Latency that half of the calls stay below.
    P50,
    /// Latency that 99 % of the calls stay below.
    P99,
    /// P50 above that of the direct way.
    AddedP50,
    /// P99 above that of the direct way.
    AddedP99,
    /// Peak of memory above that before, per session and size of the larger body.
    Memory,
    /// Megabytes of memory before the case.
    Resident,
}

/// What a comparison has to give.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// This or less.
    AtMost(f64),
    /// This or more.
    AtLeast(f64),
}

impl Bound {
    /// Whether a value is within.
    pub fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(most) => value <= most,
            Self::AtLeast(least) => value >= least,
        }
    }

    /// The limit.
    pub fn limit(self) -> f64 {
        match self {
            Self::AtMost(limit) | Self::AtLeast(limit) => limit,
        }
    }
}

/// What Lockgate is held to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Target {
    /// What is compared.
    pub quantity: Quantity,
    /// With which way; Lockgate itself for what is not compared.
    pub against: &'static str,
    /// What it has to give.
    pub bound: Bound,
}

impl Target {
    /// At most so many times that of the bare proxy.
    pub fn at_most(quantity: Quantity, times: f64) -> Self {
        Self { quantity, against: BARE, bound: Bound::AtMost(times) }
    }

    /// Something of Lockgate alone.
    pub fn of_lockgate(quantity: Quantity, bound: Bound) -> Self {
        Self { quantity, against: LOCKGATE, bound }
    }

    /// At least so many times that of another way.
    pub fn at_least(quantity: Quantity, times: f64, against: &'static str) -> Self {
        Self { quantity, against, bound: Bound::AtLeast(times) }
    }
}

/// One thing that is measured on all ways.
#[derive(Clone, Debug, Serialize)]
pub struct Case {
    /// What it is called in output and as an argument.
    pub name: String,
    /// What clients do.
    pub work: Work,
    /// Which protocol they and the upstream speak.
    pub era: Era,
    /// Bytes of the body of a call.
    pub body: usize,
    /// Bytes of the body of an answer; 0: a small one.
    pub answer: usize,
    /// How it is answered.
    pub form: Form,
    /// Clients at a time.
    pub sessions: usize,
    /// When they call.
    pub pace: Pace,
    /// Changes of Lockgate's configuration in each second.
    pub changes: u32,
    /// What has to come out.
    pub targets: Vec<Target>,
}

impl Case {
    /// Small calls of 64 legacy sessions, answered with JSON: the others differ from it.
    pub fn new(name: &str, work: Work) -> Self {
        Self {
            name: name.to_owned(),
            work,
            era: Era::Legacy,
            body: message::SMALL,
            answer: 0,
            form: Form::Json,
            sessions: 64,
            pace: Pace::Closed,
            changes: 0,
            targets: Vec::new(),
        }
    }

    /// The upstreams that it needs: name at Lockgate, path at the upstream and at the bare proxy.
    pub fn upstreams(&self) -> Vec<(String, String)> {
        let era = match self.era {
            Era::Legacy => "legacy",
            Era::Modern => "modern",
        };
        match (self.work, self.form, self.era) {
            (Work::Rest, ..) => Vec::new(),
            (Work::List(count), ..) => {
                vec![(format!("{era}-list{count}"), format!("/{era}/list/{count}"))]
            }
            (Work::Spread(count), ..) => (1..=count)
                .map(|number| (format!("spread{number}"), format!("/{era}/spread/{number}")))
                .collect(),
            (Work::Call | Work::Cycle, Form::Json, Era::Legacy) => {
                vec![("weather".to_owned(), "/mcp".to_owned())]
            }
            (Work::Call | Work::Cycle, Form::Json, Era::Modern) => {
                vec![("modern".to_owned(), "/modern/json".to_owned())]
            }
            (Work::Call | Work::Cycle, Form::Events, _) => {
                vec![(format!("{era}-events"), format!("/{era}/events"))]
            }
        }
    }

    /// The virtual server that has them.
    pub fn server(&self) -> String {
        match (self.work, self.upstreams().as_slice()) {
            (Work::Rest, _) => "rest".to_owned(),
            (_, [(name, _)]) => format!("{name}-only"),
            (_, all) => format!("all-{}", all.len()),
        }
    }

    /// How clients address a way at `base` (`http://HOST:PORT`).
    pub fn address(&self, way: &str, base: &str, token: &str) -> Address {
        let messages = self.messages(way);
        let path = match (way, self.work) {
            (LOCKGATE, _) => format!("/servers/{}/mcp", self.server()),
            (_, Work::Rest) => "/rest".to_owned(),
            // A proxy without a table of servers has one path; its upstreams are told by tool.
            _ => self.upstreams().into_iter().next().map_or("/mcp".to_owned(), |(_, path)| path),
        };
        let plain = self.work == Work::Rest && way != LOCKGATE;
        Address {
            url: format!("{base}{path}"),
            token: token.to_owned(),
            speech: if plain { Speech::Plain } else { Speech::Mcp(self.era) },
            messages,
            check: Check::Says(self.text().into()),
        }
    }

    fn messages(&self, way: &str) -> Vec<Message> {
        let call = |tool: &str| Message::call(self.era, tool, self.body, self.answer);
        let upstreams = self.upstreams();
        match self.work {
            Work::List(_) => vec![Message::list(self.era)],
            Work::Rest => {
                let call = call(REST_TOOL);
                match way {
                    LOCKGATE => vec![call],
                    _ => Message::arguments_of(&call).into_iter().collect(),
                }
            }
            Work::Call | Work::Spread(_) | Work::Cycle => upstreams
                .iter()
                .map(|(name, _)| match way {
                    DIRECT => call(UPSTREAM_TOOL),
                    _ => call(&exposed(name)),
                })
                .collect(),
        }
    }

    /// What the answer to a call says.
    pub fn text(&self) -> String {
        if self.work == Work::Rest {
            return message::rest_answer();
        }
        let answer =
            format!("{{{}", String::from_utf8_lossy(&message::answer(self.era, self.answer)));
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap_or_default();
        let text = answer.pointer("/result/content/0/text").and_then(serde_json::Value::as_str);
        text.unwrap_or_default().to_owned()
    }

    /// Bytes of the larger of the two bodies.
    pub fn larger_body(&self) -> usize {
        self.body.max(self.answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_is_called_by_the_names_that_it_knows() {
        let case = Case::new("c", Work::Spread(3));
        let tools = |way| {
            let address = case.address(way, "http://h", "t");
            address.messages.into_iter().filter_map(|it| it.tool).collect::<Vec<_>>()
        };
        assert_eq!(tools(DIRECT), [UPSTREAM_TOOL; 3]);
        assert_eq!(tools(LOCKGATE)[2], "spread3-get_forecast");
        assert_eq!(case.address(LOCKGATE, "http://h", "t").url, "http://h/servers/all-3/mcp");
        assert_eq!(case.address(BARE, "http://h", "t").url, "http://h/legacy/spread/1");
    }

    #[test]
    fn a_rest_tool_is_plain_http_to_all_but_lockgate() {
        let case = Case::new("c", Work::Rest);
        assert_eq!(case.address(BARE, "http://h", "t").speech, Speech::Plain);
        let lockgate = case.address(LOCKGATE, "http://h", "t");
        assert_eq!(lockgate.speech, Speech::Mcp(Era::Legacy));
        assert_eq!(lockgate.url, "http://h/servers/rest/mcp");
        assert!(case.text().contains("\"sunny\""));
    }

    #[test]
    fn large_answers_have_large_texts() {
        let case = Case { answer: 1 << 16, ..Case::new("c", Work::Call) };
        let text = case.text();
        assert!(text.contains("Dublin") && text.len() > 50_000, "{}", text.len());
    }
}
