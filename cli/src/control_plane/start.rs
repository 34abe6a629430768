//! The control plane's part of the settings, and what its refusals mean here.

use control_plane::{
    Config, ControlPlane, ServeError, StartError, StdioUpstreams, Strictness, config::DataDir,
};
use tokio::sync::watch;

use crate::{
    config::Settings,
    failure::{Exit, Failure},
    roles::one_line,
};

/// Starts a control plane; nothing is bound yet.
pub(crate) async fn start(settings: &Settings) -> Result<ControlPlane, Failure> {
    ControlPlane::start(config(settings)).await.map_err(refused)
}

fn config(settings: &Settings) -> Config {
    let usual = Config::new(&settings.data_dir);
    Config {
        peer_certificate_lifetime: settings
            .peer_certificate_lifetime
            .unwrap_or(usual.peer_certificate_lifetime),
        proxy_forget_after: settings.proxy_forget_after.unwrap_or(usual.proxy_forget_after),
        database_url: settings.database_url.clone(),
        admin_user: settings.admin_user.clone(),
        admin_password: settings.admin_password.clone(),
        jwt_secret: settings.jwt_secret.clone(),
        encryption_secret: settings.encryption_secret.clone(),
        app_name: settings.app_name.clone(),
        strictness: if settings.strict { Strictness::Strict } else { Strictness::Lenient },
        stdio: if settings.stdio_upstreams {
            StdioUpstreams::Allowed
        } else {
            StdioUpstreams::Forbidden
        },
        ..usual
    }
}

/// One line and the exit code of the README.
fn refused(error: StartError) -> Failure {
    let (exit, code) = match &error {
        StartError::DataDirInUse { .. } => (Exit::Conflict, "data_dir_in_use"),
        StartError::NewerDatabase { .. } => (Exit::Conflict, "newer_database"),
        StartError::WeakSecrets { .. } => (Exit::Usage, "weak_secrets"),
        StartError::DataDirUnwritable { .. } => (Exit::General, "data_dir_unwritable"),
        StartError::Keys(_) | StartError::StoredKeys(_) | StartError::Authority(_) => {
            (Exit::General, "keys")
        }
        StartError::Store(_) => (Exit::General, "database"),
    };
    Failure::new(exit, code, one_line(&error))
}

/// A listener that ended before it was told to.
pub(crate) fn ended(result: Result<(), ServeError>) -> Result<(), Failure> {
    result.map_err(|error| Failure::new(Exit::General, "listener", one_line(&error)))
}

/// Done as soon as the sender is dropped.
pub(crate) async fn told(mut stopped: watch::Receiver<()>) {
    // Nothing is ever sent: the only news is that the sender is gone.
    stopped.changed().await.ok();
}

/// On the first start: the password, this one time, and where the keys are.
pub(crate) fn first_start(settings: &Settings, control_plane: &ControlPlane) -> Vec<String> {
    let Some(password) = control_plane.generated_admin_password() else { return Vec::new() };
    let places = DataDir::new(&settings.data_dir);
    vec![
        format!("  first start   user `{}`, password {}", settings.admin_user, password.expose()),
        format!(
            "                shown only now; kept in {}, keys in {}",
            places.admin_password().display(),
            places.keys().display()
        ),
    ]
}
