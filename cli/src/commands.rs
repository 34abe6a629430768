//! Which command does what.
//!
//! To add a command: its arguments in `args.rs`, a function in the file of its noun below
//! `commands/`, and a line here.

use crate::{
    args::{
        Command, CreateObject, DeleteObject, GetArgs, Global, Object, Plural, ProxyCommand,
        RefreshObject, UpdateObject,
    },
    client::Client,
    config::Environment,
    failure::Failure,
    output::Output,
};

mod apply;
mod configuration;
mod entry;
mod jwt;
mod proxy;
mod server;
mod status;
mod token;
mod tool;
mod upstream;
mod wait;

#[cfg(feature = "data-plane")]
pub(crate) use proxy::all_proxies;

/// What every command is given.
pub(crate) struct Context {
    pub global: Global,
    pub environment: Environment,
    pub output: Output,
}

/// Whether a write was only checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Write {
    Checked,
    Done,
}

impl From<bool> for Write {
    /// From `validate_only`.
    fn from(validate_only: bool) -> Self {
        if validate_only { Self::Checked } else { Self::Done }
    }
}

impl Context {
    pub(crate) async fn client(&self) -> Result<Client, Failure> {
        Client::connect(&self.global, &self.environment).await
    }
}

/// Runs one command to its end.
pub(crate) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        // With their features, `main` has run these: they choose their own runtimes.
        Command::Up(_) => Err(absent("up")),
        Command::ControlPlane(_) => Err(absent("control-plane")),

        #[cfg(feature = "data-plane")]
        Command::Tools { command } => crate::tools::run(context, command).await,
        #[cfg(not(feature = "data-plane"))]
        Command::Tools { .. } => Err(absent("tools")),
        Command::DataPlane(_) => Err(absent("data-plane")),
        Command::Connect(_) => Err(absent("connect")),
        Command::Translate(_) => Err(absent("translate")),
        Command::Create { object } => create(context, object).await,
        Command::Get(args) => get(context, args).await,
        Command::Describe { object } => describe(context, object).await,
        Command::Update { object } => update(context, object).await,
        Command::Delete { object } => delete(context, object).await,
        Command::Refresh { object: RefreshObject::Upstream { name, no_wait } } => {
            upstream::refresh(context, &name, wait::Wait::from(no_wait)).await
        }
        Command::Apply(args) => apply::run(context, &args).await,
        Command::Token { command } => token::run(context, command).await,
        Command::Proxy { command: ProxyCommand::JoinToken { valid } } => {
            proxy::join_token(context, valid).await
        }
        Command::Proxy { command: ProxyCommand::Revoke { id } } => {
            proxy::revoke(context, &id).await
        }
        Command::Status => status::status(context).await,
        Command::Version { client: true } => status::client_version(context),
        Command::Version { client: false } => status::version(context).await,
        Command::Config { command } => configuration::run(context, &command),
    }
}

/// Small images leave roles out.
fn absent(role: &str) -> Failure {
    let message = format!("this lockgate was built without `{role}`");
    Failure::new(crate::failure::Exit::General, "not_built", message)
}

async fn create(context: &Context, object: CreateObject) -> Result<(), Failure> {
    match object {
        CreateObject::Upstream(args) => upstream::create(context, args).await,
        CreateObject::Tool(args) => tool::create(context, args).await,
        CreateObject::Server(args) => server::create(context, args).await,
    }
}

async fn get(context: &Context, args: GetArgs) -> Result<(), Failure> {
    let GetArgs { kind, name, upstream } = args;
    if upstream.is_some() && !matches!(kind, Plural::Tools | Plural::Prompts | Plural::Resources) {
        return Err(Failure::usage("--upstream goes with tools, prompts and resources only"));
    }
    match (kind, name) {
        (Plural::Upstreams, None) => upstream::list(context).await,
        (Plural::Upstreams, Some(name)) => upstream::get(context, &name).await,
        (Plural::Tools, None) => tool::list(context, upstream).await,
        (Plural::Tools, Some(name)) => tool::get(context, &name).await,
        (Plural::Prompts, name) => entry::prompts(context, name.as_deref(), upstream).await,
        (Plural::Resources, name) => entry::resources(context, name.as_deref(), upstream).await,
        (Plural::Servers, None) => server::list(context).await,
        (Plural::Servers, Some(name)) => server::get(context, &name).await,
        (Plural::Proxies, name) => proxy::list(context, name.as_deref()).await,
        (Plural::Tokens, None) => token::list(context, token::Which::Valid).await,
        (Plural::Tokens, Some(_)) => Err(Failure::usage("`get tokens` takes no name")),
    }
}

async fn describe(context: &Context, object: Object) -> Result<(), Failure> {
    match object {
        Object::Upstream { name } => upstream::describe(context, &name).await,
        Object::Tool { name } => tool::describe(context, &name).await,
        Object::Server { name } => server::describe(context, &name).await,
    }
}

async fn update(context: &Context, object: UpdateObject) -> Result<(), Failure> {
    match object {
        UpdateObject::Upstream(args) => upstream::update(context, args).await,
        UpdateObject::Tool(args) => tool::update(context, args).await,
        UpdateObject::Server(args) => server::update(context, args).await,
    }
}

/// Several names are deleted one by one; what could not be deleted is told at the end.
async fn delete(context: &Context, object: DeleteObject) -> Result<(), Failure> {
    let (kind, args) = match object {
        DeleteObject::Upstream(args) => ("upstream", args),
        DeleteObject::Tool(args) => ("tool", args),
        DeleteObject::Server(args) => ("server", args),
    };
    let client = context.client().await?;
    let mut failures = Vec::new();
    for name in &args.names {
        let deleted = match kind {
            "upstream" => upstream::delete(&client, name, &args).await,
            "tool" => tool::delete(&client, name, &args).await,
            _ => server::delete(&client, name, &args).await,
        };
        match deleted {
            Ok(_) if args.write.dry_run => {
                context.output.say(&format!("{kind} {name} can be deleted"));
            }
            Ok(_) => context.output.say(&format!("{kind} {name} deleted")),
            Err(failure) if failure.code == "not_found" && args.ignore_missing => {}
            Err(failure) => failures.push(failure),
        }
    }
    partly(args.names.len(), failures)
}

/// One of one failed: that failure. Some of several: exit code 8.
fn partly(asked: usize, mut failures: Vec<Failure>) -> Result<(), Failure> {
    if failures.is_empty() {
        return Ok(());
    }
    if failures.len() == asked && asked == 1 {
        return Err(failures.remove(0));
    }
    let lines = failures.iter().map(|failure| failure.message.as_str()).collect::<Vec<_>>();
    let message = format!("{} of {asked} failed: {}", failures.len(), lines.join("; "));
    Err(Failure::new(crate::failure::Exit::Partial, "partial", message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_failed_has_its_own_exit_code() {
        let missing =
            || Failure::new(crate::failure::Exit::NotFound, "not_found", "no upstream `x`");
        assert_eq!(partly(2, vec![]), Ok(()));
        assert_eq!(partly(1, vec![missing()]).unwrap_err().exit as u8, 3);
        let failure = partly(2, vec![missing()]).unwrap_err();
        assert_eq!(failure.exit as u8, 8);
        assert_eq!(failure.message, "1 of 2 failed: no upstream `x`");
    }
}
