//! Client contexts: which server to talk to, whom to trust and as whom.
//!
//! A thing of its own because `lineman serve --dev` writes the file that every
//! other command reads. Contexts are kept in one TOML file:
//! `$LINEMAN_CONFIG`, else `$XDG_CONFIG_HOME/lineman/config.toml`, else
//! `~/.config/lineman/config.toml`. It names files with secrets and holds none.
//!
//! What is told wins in this order: flag, environment variable, context. A
//! `--server` without `--context` takes nothing from the file, so that no token
//! is ever shown to a server that it was not meant for.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// One server, as a client sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// `host:port`; the certificate must be for this host.
    pub server: String,
    /// The certificates to trust, in PEM; no others are.
    pub ca_file: PathBuf,
    /// The file with the bearer token.
    pub token_file: PathBuf,
}

/// The contexts could not be read or saved, or tell too little.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither flags nor contexts name a server.
    #[error(
        "no server is known; start one with `lineman serve --dev`, or give --server, --ca-file \
         and --token-file"
    )]
    NoServer,
    /// Several contexts and none is the current one.
    #[error("{} has several contexts and none is current; choose one with --context: {}",
        path.display(), names.join(", "))]
    Ambiguous {
        /// The file.
        path: PathBuf,
        /// Those to choose from.
        names: Vec<String>,
    },
    /// The chosen context is not in the file.
    #[error("there is no context \"{name}\" in {}", path.display())]
    NoContext {
        /// The context chosen.
        name: String,
        /// The file.
        path: PathBuf,
    },
    /// A server was given without all that goes with it.
    #[error("--server needs {0} too")]
    Incomplete(&'static str),
    /// No place for the file.
    #[error("there is no place for the contexts; set LINEMAN_CONFIG or HOME")]
    NoPlace,
    /// The file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not what it should be.
    #[error("{} is not valid: {message}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and why.
        message: String,
    },
}

impl Error {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |source| Self::Io { path, source }
    }
}

/// What flags and environment variables say; empty strings say nothing.
#[derive(Debug, Clone, Default)]
pub(super) struct Overrides {
    pub(super) context: Option<String>,
    pub(super) server: Option<String>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) token_file: Option<PathBuf>,
}

/// Adds or replaces the context `name` in the file and returns the file's path.
/// It becomes the current one if there is none. Whoever reads meanwhile sees
/// the old file or the new, never a part.
pub fn save(name: &str, context: &Context) -> Result<PathBuf, Error> {
    let path = path_from(|name| std::env::var_os(name))?;
    save_in(&path, name, context)?;
    Ok(path)
}

/// The context to use.
pub(super) fn resolve(overrides: Overrides) -> Result<Context, Error> {
    let path = path_from(|name| std::env::var_os(name))?;
    resolve_in(&path, overrides)
}

/// The file, in the order of fields in which it is written.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(skip_serializing_if = "Option::is_none")]
    current_context: Option<String>,
    #[serde(default)]
    contexts: BTreeMap<String, Context>,
}

impl File {
    /// The file at `path`; one that is not there is empty.
    fn read(path: &Path) -> Result<Self, Error> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(Error::io(path)(error)),
        };
        toml::from_str(&text).map_err(|error| malformed(path, &error))
    }

    fn write(&self, path: &Path) -> Result<(), Error> {
        let text = toml::to_string(self).map_err(|error| malformed(path, &error))?;
        let folder = path.parent().unwrap_or(Path::new("."));
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(Error::io(folder))?;
        let temporary = path.with_extension(format!("{:016x}.tmp", fastrand::u64(..)));
        let replaced = write_new(&temporary, text.as_bytes())
            .and_then(|()| fs::rename(&temporary, path))
            .map_err(Error::io(path));
        if replaced.is_err() {
            // It may not even be there; the failure above is the one to tell.
            fs::remove_file(&temporary).ok();
        }
        replaced
    }

    fn take(mut self, path: &Path, chosen: Option<String>) -> Result<Context, Error> {
        let name = match chosen.or(self.current_context) {
            Some(name) => name,
            None if self.contexts.len() > 1 => {
                return Err(Error::Ambiguous {
                    path: path.to_owned(),
                    names: self.contexts.into_keys().collect(),
                });
            }
            None => {
                let only = self.contexts.pop_first();
                return only.map(|(_, context)| context).ok_or(Error::NoServer);
            }
        };
        self.contexts.remove(&name).ok_or_else(|| Error::NoContext { name, path: path.to_owned() })
    }
}

fn resolve_in(path: &Path, overrides: Overrides) -> Result<Context, Error> {
    let chosen = overrides.context.filter(|name| !name.is_empty());
    let server = overrides.server.filter(|server| !server.is_empty());
    let given = |file: Option<PathBuf>| file.filter(|path| !path.as_os_str().is_empty());
    let (ca_file, token_file) = (given(overrides.ca_file), given(overrides.token_file));
    if let (Some(server), None) = (&server, &chosen) {
        return Ok(Context {
            server: server.clone(),
            ca_file: ca_file.ok_or(Error::Incomplete("--ca-file"))?,
            token_file: token_file.ok_or(Error::Incomplete("--token-file"))?,
        });
    }
    let context = File::read(path)?.take(path, chosen)?;
    Ok(Context {
        server: server.unwrap_or(context.server),
        ca_file: ca_file.unwrap_or(context.ca_file),
        token_file: token_file.unwrap_or(context.token_file),
    })
}

fn save_in(path: &Path, name: &str, context: &Context) -> Result<(), Error> {
    let mut file = File::read(path)?;
    file.contexts.insert(name.to_owned(), context.clone());
    file.current_context.get_or_insert_with(|| name.to_owned());
    // A link is followed, so that the file it points to is the one replaced.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    file.write(&target)
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn path_from(variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf, Error> {
    let set = |name| variable(name).filter(|value| !value.is_empty());
    if let Some(path) = set("LINEMAN_CONFIG") {
        return Ok(path.into());
    }
    let base = match (set("XDG_CONFIG_HOME"), set("HOME")) {
        (Some(base), _) => PathBuf::from(base),
        (None, Some(home)) => Path::new(&home).join(".config"),
        (None, None) => return Err(Error::NoPlace),
    };
    Ok(base.join("lineman").join("config.toml"))
}

fn malformed(path: &Path, error: &dyn std::error::Error) -> Error {
    Error::Malformed { path: path.to_owned(), message: error.to_string().trim_end().to_owned() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn context(server: &str) -> Context {
        Context {
            server: server.to_owned(),
            ca_file: "/etc/lineman/ca.pem".into(),
            token_file: "/etc/lineman/token".into(),
        }
    }

    fn path_with(set: &[(&str, &str)]) -> Result<PathBuf, Error> {
        path_from(|name| {
            let found = set.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).into())
        })
    }

    #[test]
    fn the_file_is_where_people_look_for_it() {
        let home = ("HOME", "/home/a");
        let check = |set: &[_], expected: &str| {
            assert_eq!(path_with(set).unwrap(), Path::new(expected));
        };
        check(&[home], "/home/a/.config/lineman/config.toml");
        check(&[home, ("XDG_CONFIG_HOME", "/x")], "/x/lineman/config.toml");
        check(&[home, ("LINEMAN_CONFIG", "/l.toml")], "/l.toml");
        assert!(matches!(path_with(&[("HOME", "")]), Err(Error::NoPlace)));
    }

    #[test]
    fn saving_keeps_the_others_and_the_current_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/config.toml");
        save_in(&path, "dev", &context("a:1")).unwrap();
        save_in(&path, "prod", &context("b:2")).unwrap();
        save_in(&path, "dev", &context("c:3")).unwrap();
        let file = File::read(&path).unwrap();
        assert_eq!(file.current_context.as_deref(), Some("dev"));
        assert_eq!(file.contexts["dev"], context("c:3"));
        assert_eq!(file.contexts["prod"], context("b:2"));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn chooses_flag_then_current_then_the_only_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        let resolve = |overrides| resolve_in(&path, overrides);
        assert!(matches!(resolve(Overrides::default()), Err(Error::NoServer)));
        save_in(&path, "dev", &context("a:1")).unwrap();
        save_in(&path, "prod", &context("b:2")).unwrap();
        assert_eq!(resolve(Overrides::default()).unwrap(), context("a:1"));
        let chosen =
            |name: &str| Overrides { context: Some(name.to_owned()), ..Overrides::default() };
        assert_eq!(resolve(chosen("prod")).unwrap(), context("b:2"));
        assert!(matches!(resolve(chosen("gone")), Err(Error::NoContext { .. })));
        fs::write(&path, "[contexts.a]\nserver='a:1'\nca_file='c'\ntoken_file='t'\n").unwrap();
        assert_eq!(resolve(Overrides::default()).unwrap().server, "a:1");
    }

    #[test]
    fn another_server_never_sees_a_contexts_token() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        save_in(&path, "dev", &context("a:1")).unwrap();
        let overrides = Overrides {
            server: Some("evil:1".to_owned()),
            ca_file: Some("ca".into()),
            ..Overrides::default()
        };
        let refused = resolve_in(&path, overrides);
        assert!(matches!(refused, Err(Error::Incomplete("--token-file"))));
    }

    #[test]
    fn unknown_fields_are_refused_with_their_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        fs::write(&path, "current-context = 'x'\n").unwrap();
        let error = resolve_in(&path, Overrides::default()).unwrap_err();
        assert!(error.to_string().contains("current-context"), "{error}");
    }
}
