//! Server capabilities as a small set: what an upstream offers, and what an endpoint serves.

use proto::Era;

use super::{
    object::{Span, member, members},
    task::EXTENSION,
};

/// What a server may offer, as far as a gateway passes it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    Tools,
    Prompts,
    Resources,
    Completions,
    Logging,
    ToolsListChanged,
    PromptsListChanged,
    ResourcesListChanged,
    Subscribe,
    /// Of the legacy era: calls of tools can be tasks.
    Tasks,
    TasksList,
    TasksCancel,
    /// Of the modern era: the tasks extension.
    TasksExtension,
}

/// Features with their places in a `ServerCapabilities` object.
const PLACES: [(Feature, &str, &str); 9] = [
    (Feature::Tools, "tools", ""),
    (Feature::ToolsListChanged, "tools", "listChanged"),
    (Feature::Prompts, "prompts", ""),
    (Feature::PromptsListChanged, "prompts", "listChanged"),
    (Feature::Resources, "resources", ""),
    (Feature::Subscribe, "resources", "subscribe"),
    (Feature::ResourcesListChanged, "resources", "listChanged"),
    (Feature::Completions, "completions", ""),
    (Feature::Logging, "logging", ""),
];

/// The members of a `ServerCapabilities` object that we know, with what we know of those inside.
pub(super) const OUTER: [(&str, &[&str]); 5] = [
    ("tools", &["listChanged"]),
    ("prompts", &["listChanged"]),
    ("resources", &["subscribe", "listChanged"]),
    ("completions", &[]),
    ("logging", &[]),
];

/// Features of legacy tasks with their paths in `tasks`.
const TASKS: [(Feature, &[&str]); 3] = [
    (Feature::TasksList, &["list"]),
    (Feature::TasksCancel, &["cancel"]),
    (Feature::Tasks, &["requests", "tools", "call"]),
];

/// A set of features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Features(u16);

impl Features {
    pub const NONE: Self = Self(0);

    /// Those of a `ServerCapabilities` object, JSON text; anything else has none.
    pub fn read(text: &str) -> Self {
        let whole = Span { start: 0, end: text.len() };
        let mut features = Self::NONE;
        for outer in members(text, whole) {
            if !outer.value.of(text).starts_with('{') {
                continue;
            }
            for (feature, name, inner) in PLACES {
                let is_set = || {
                    member(text, outer.value, inner).is_some_and(|value| value.of(text) == "true")
                };
                if *outer.name == *name && (inner.is_empty() || is_set()) {
                    features = features.with(feature);
                }
            }
            features = features.or(match &*outer.name {
                "tasks" => tasks(text, outer.value),
                "extensions" if member(text, outer.value, EXTENSION).is_some() => {
                    Self::NONE.with(Feature::TasksExtension)
                }
                _ => Self::NONE,
            });
        }
        features
    }

    /// As a `ServerCapabilities` object, JSON text.
    pub fn to_json(self) -> String {
        let outer =
            PLACES.iter().filter(|(feature, _, inner)| inner.is_empty() && self.has(*feature));
        let parts = outer.map(|(_, name, _)| {
            let inner = PLACES.iter().filter(|(feature, outer, inner)| {
                outer == name && !inner.is_empty() && self.has(*feature)
            });
            let inner: Vec<_> = inner.map(|(_, _, inner)| format!("\"{inner}\":true")).collect();
            format!("\"{name}\":{{{}}}", inner.join(","))
        });
        let tasks = self.has(Feature::Tasks).then(|| {
            let part = |feature, name: &str| {
                if self.has(feature) { format!("\"{name}\":{{}},") } else { String::new() }
            };
            let (list, cancel) =
                (part(Feature::TasksList, "list"), part(Feature::TasksCancel, "cancel"));
            format!(r#""tasks":{{{list}{cancel}"requests":{{"tools":{{"call":{{}}}}}}}}"#)
        });
        let extensions = self.has(Feature::TasksExtension);
        let extensions = extensions.then(|| format!(r#""extensions":{{"{EXTENSION}":{{}}}}"#));
        let parts = parts.chain(tasks).chain(extensions);
        format!("{{{}}}", parts.collect::<Vec<_>>().join(","))
    }

    /// Tasks of every kind.
    pub fn of_tasks() -> Self {
        TASKS.iter().map(|(feature, _)| *feature).chain([Feature::TasksExtension]).collect()
    }

    /// What clients of an era get of the tasks of an upstream: those of the other generation are
    /// translated. What has no counterpart is not there.
    #[must_use]
    pub fn tasks_for(self, era: Era) -> Self {
        let own = self.and(Self::of_tasks());
        let modern = Self::NONE.with(Feature::TasksExtension);
        match era {
            Era::Legacy if self.has(Feature::TasksExtension) => {
                own.without(Feature::TasksExtension).with(Feature::Tasks).with(Feature::TasksCancel)
            }
            Era::Legacy => own,
            Era::Modern if self.has(Feature::Tasks) => modern,
            Era::Modern => own.and(modern),
        }
    }

    /// Without tasks of any kind.
    #[must_use]
    pub fn without_tasks(self) -> Self {
        Self(self.0 & !Self::of_tasks().0)
    }

    /// With the promise to tell when one of the lists changes.
    #[must_use]
    pub fn announcing(self) -> Self {
        let lists = [
            (Feature::Tools, Feature::ToolsListChanged),
            (Feature::Prompts, Feature::PromptsListChanged),
            (Feature::Resources, Feature::ResourcesListChanged),
        ];
        let had = lists.iter().filter(|(list, _)| self.has(*list));
        had.fold(self, |all, (_, changed)| all.with(*changed))
    }

    pub fn has(self, feature: Feature) -> bool {
        self.0 & Self::bit(feature) != 0
    }

    #[must_use]
    pub fn with(self, feature: Feature) -> Self {
        Self(self.0 | Self::bit(feature))
    }

    #[must_use]
    pub fn without(self, feature: Feature) -> Self {
        Self(self.0 & !Self::bit(feature))
    }

    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those that both have.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    fn bit(feature: Feature) -> u16 {
        1 << feature as u16
    }
}

fn tasks(text: &str, span: Span) -> Features {
    let is_there = |path: &[&str]| {
        let found = path.iter().try_fold(span, |at, name| member(text, at, name));
        found.is_some_and(|found| found.of(text).starts_with('{'))
    };
    TASKS.iter().filter(|(_, path)| is_there(path)).map(|(feature, _)| *feature).collect()
}

impl FromIterator<Feature> for Features {
    fn from_iter<I: IntoIterator<Item = Feature>>(features: I) -> Self {
        features.into_iter().fold(Self::NONE, Self::with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_declared_counts_and_nothing_else() {
        let text = r#"{"tools":{"listChanged":true},"resources":{"subscribe":false},"prompts":null,"completions":{},"x":{}}"#;
        let features = Features::read(text);
        let expected = r#"{"tools":{"listChanged":true},"resources":{},"completions":{}}"#;
        assert_eq!(features.to_json(), expected);
        assert!(!features.has(Feature::Subscribe) && !features.has(Feature::Prompts));
        assert_eq!(Features::read(""), Features::NONE);
        assert_eq!(Features::read("[]").to_json(), "{}");
    }

    #[test]
    fn every_feature_survives_its_text() {
        let all: Features = PLACES.iter().map(|(feature, ..)| *feature).collect();
        let all = all.or(Features::of_tasks());
        assert_eq!(Features::read(&all.to_json()), all);
        let expected = r#"{"tasks":{"requests":{"tools":{"call":{}}}},"extensions":{"io.modelcontextprotocol/tasks":{}}}"#;
        let some: Features = [Feature::Tasks, Feature::TasksExtension].into_iter().collect();
        assert_eq!(some.to_json(), expected);
        assert_eq!(Features::read(r#"{"tasks":{"list":{},"requests":{}}}"#).to_json(), "{}");
        assert_eq!(all.without_tasks().or(Features::of_tasks()), all);
        assert_eq!(all.without_tasks().and(Features::of_tasks()), Features::NONE);
    }

    #[test]
    fn each_generation_gets_its_own_form_of_the_others_tasks() {
        let set = |features: &[Feature]| features.iter().copied().collect::<Features>();
        let extension = set(&[Feature::TasksExtension]);
        let legacy = set(&[Feature::Tasks, Feature::TasksList]);
        assert_eq!(
            extension.tasks_for(Era::Legacy),
            set(&[Feature::Tasks, Feature::TasksCancel]),
            "who lists tasks of modern servers does not get all"
        );
        assert_eq!(extension.tasks_for(Era::Modern), extension);
        assert_eq!(legacy.tasks_for(Era::Modern), extension);
        assert_eq!(legacy.with(Feature::Tools).tasks_for(Era::Legacy), legacy);
        for era in [Era::Legacy, Era::Modern] {
            assert_eq!(set(&[Feature::Tools]).tasks_for(era), Features::NONE);
        }
    }
}
