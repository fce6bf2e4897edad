//! `witness.toml` and `witness.key`: who this witness is. Made once, by an explicit command, and never over anything.
//!
//! The database is made here too and nowhere else: a witness that starts without one has lost it, and must not begin again
//! from nothing under a name whose cosignatures are out in the world.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use serde::Deserialize;
use waymark_log::{
    cosignature::Cosigner,
    key::SecretKey,
    note::{KeyName, Vkey},
};
use waymark_runtime::{
    config::{self, ConfigError},
    durable,
    keyfile::{self, KeyFileError},
    tls::TlsFiles,
};

use crate::{
    Settings,
    logs::{self, LogsError},
    state::{State, StateError},
};

/// The configuration, in the data directory.
pub const CONFIG_FILE: &str = "witness.toml";
/// The secret key, mode 0600.
pub const KEY_FILE: &str = "witness.key";
/// The next secret key, while a witness is given one ([`crate::reset`]).
pub const NEXT_KEY_FILE: &str = "witness.key.next";
/// The database.
pub const STATE_FILE: &str = "witness.redb";
/// Folder of refused requests.
pub const REFUSED_FOLDER: &str = "refused";
/// Where a witness listens unless told otherwise.
pub const LISTEN_DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8081);

/// Where `init` lets a witness tell its health and metrics unless told otherwise.
pub const OPERATIONS_DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9091);

/// What can be wrong with a data directory.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// There is something already.
    #[error("{0} is not empty; a witness is made in a directory of its own, and never over another")]
    NotEmpty(PathBuf),
    /// The file system.
    #[error("{path}: {error}")]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// What happened.
        error: io::Error,
    },
    /// The configuration file.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The key file.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The list of logs.
    #[error(transparent)]
    Logs(#[from] LogsError),
    /// The database.
    #[error(transparent)]
    State(#[from] StateError),
    /// A new key was begun to be made.
    #[error(
        "{0} is there: `waymark-witness reset-clock` broke off in the middle. Run it again: it goes on, or ends it if \
         there is no need any more"
    )]
    ResetUnfinished(PathBuf),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    name: String,
    #[serde(default = "listen_default")]
    listen: SocketAddr,
    operations: Option<SocketAddr>,
    tls: Option<TlsFiles>,
}

const fn listen_default() -> SocketAddr {
    LISTEN_DEFAULT
}

/// Makes a witness: its directory (unless it is there and empty), key, list of logs, database and configuration.
///
/// # Errors
/// [`SetupError::NotEmpty`] if anything is there; else what failed. A directory that was left half made is of no use and
/// can be removed: without its configuration, which is written last, nothing has ever been cosigned from it.
pub fn init(dir: &Path, name: KeyName, listen: SocketAddr, operations: Option<SocketAddr>) -> Result<Vkey, SetupError> {
    let io = |error| SetupError::Io { path: dir.to_owned(), error };
    if !durable::private_folder(dir).map_err(io)? {
        return Err(SetupError::NotEmpty(dir.to_owned()));
    }
    let seed = keyfile::create(&dir.join(KEY_FILE))?;
    logs::create(dir)?;
    State::create(&dir.join(STATE_FILE))?;
    let path = dir.join(CONFIG_FILE);
    let text = config_text(&name, listen, operations);
    durable::replace(&path, text.as_bytes()).map_err(|error| SetupError::Io { path, error })?;
    Ok(Cosigner::new(name, SecretKey::from_seed(&seed)).vkey().clone())
}

/// The end of the file as `init` writes it.
const TLS_TEXT: &str = "
# Certificate chain and key, PEM files, relative to this folder; the key's mode must be 0600. No default. Both are read again
# when they change.
# [tls]
# cert = \"tls/cert.pem\"
# key = \"tls/key.pem\"
";

/// The file as `init` writes it.
fn config_text(name: &KeyName, listen: SocketAddr, operations: Option<SocketAddr>) -> String {
    // A key name may hold quotation marks; TOML's own writer knows how to spell them.
    let name = toml::Value::String(name.as_str().to_owned());
    let mut text = format!(
        "# The witness's name, in every cosignature it has made. No default. Another name is another witness: everybody\n\
         # who trusts this one would see it fall silent, and it would refuse to start on its own database.\n\
         name = {name}\n\
         \n\
         # Address and port of the HTTP listener. Default \"{LISTEN_DEFAULT}\". Beyond loopback only with the table\n\
         # [tls] below. The flag --listen and the variable WAYMARK_WITNESS_LISTEN come before it.\n\
         listen = \"{listen}\"\n"
    );
    text += "\n# Address and port of the listener for health and metrics. Without it there is none. Beyond loopback only with [tls].\n\
             # The flag --operations and the variable WAYMARK_WITNESS_OPERATIONS come before it.\n";
    text += &operations.map_or_else(
        || format!("# operations = \"{OPERATIONS_DEFAULT}\"\n"),
        |operations| format!("operations = \"{operations}\"\n"),
    );
    text + TLS_TEXT
}

/// Reads a data directory that [`init`] made.
///
/// # Errors
/// [`SetupError`].
pub fn load(dir: &Path) -> Result<Settings, SetupError> {
    let next = dir.join(NEXT_KEY_FILE);
    if next.try_exists().map_err(|error| SetupError::Io { path: next.clone(), error })? {
        return Err(SetupError::ResetUnfinished(next));
    }
    load_unchecked(dir)
}

/// Reads a data directory, also one in which a reset broke off.
pub(crate) fn load_unchecked(dir: &Path) -> Result<Settings, SetupError> {
    let path = dir.join(CONFIG_FILE);
    let file: ConfigFile = config::load(&path)?;
    let name = KeyName::new(&file.name).map_err(|e| ConfigError::new(&path, format!("name: {e}")))?;
    let seed = keyfile::load(&dir.join(KEY_FILE))?;
    let secret = SecretKey::from_seed(&seed);
    let tls = file.tls.map(|files| files.beside(dir));
    Ok(Settings { name, secret, data_dir: dir.to_owned(), listen: file.listen, operations: file.operations, tls })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    fn name(text: &str) -> KeyName {
        KeyName::new(text).unwrap()
    }

    #[test]
    fn what_is_made_is_what_is_loaded_and_it_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("deep/w");
        let odd = name("w.example/\"quoted\\");
        let vkey = init(&dir, odd.clone(), "127.0.0.1:7".parse().unwrap(), Some(OPERATIONS_DEFAULT)).unwrap();
        let settings = load(&dir).unwrap();
        assert_eq!((settings.name.clone(), settings.listen.port()), (odd.clone(), 7));
        assert_eq!((settings.operations, settings.tls.clone()), (Some(OPERATIONS_DEFAULT), None));
        assert_eq!(Cosigner::new(settings.name, settings.secret).vkey(), &vkey);
        assert_eq!(fs::metadata(dir.join(KEY_FILE)).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(logs::logs(&dir).unwrap(), []);
        assert!(matches!(init(&dir, odd, LISTEN_DEFAULT, None), Err(SetupError::NotEmpty(_))));
    }

    #[test]
    fn whatever_is_there_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a letter"), "dear").unwrap();
        let made = init(folder.path(), name("w.example"), LISTEN_DEFAULT, None);
        assert!(matches!(made, Err(SetupError::NotEmpty(_))));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_configuration_says_no_more_and_no_less() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("w");
        init(&dir, name("w.example"), LISTEN_DEFAULT, None).unwrap();
        let written = fs::read_to_string(dir.join(CONFIG_FILE)).unwrap();
        // What stands there as a comment is what it says it is.
        let uncommented = ["[tls]\n", "cert = ", "key = "].iter().fold(written, |text, line| {
            assert!(text.contains(&format!("\n# {line}")), "no {line} in {text}");
            text.replace(&format!("\n# {line}"), &format!("\n{line}"))
        });
        fs::write(dir.join(CONFIG_FILE), uncommented).unwrap();
        let tls = load(&dir).unwrap().tls.unwrap();
        assert_eq!((tls.cert, tls.key), (dir.join("tls/cert.pem"), dir.join("tls/key.pem")));
        for bad in
            ["", "name = \"a b\"", "name = \"w\"\nlisten = \"here\"", "name = \"w\"\nlisten_on = \"127.0.0.1:1\""]
        {
            fs::write(dir.join(CONFIG_FILE), bad).unwrap();
            assert!(matches!(load(&dir), Err(SetupError::Config(_))), "{bad:?}");
        }
        fs::write(dir.join(CONFIG_FILE), "name = \"w\"").unwrap();
        assert_eq!(load(&dir).unwrap().listen, LISTEN_DEFAULT);
    }
}
