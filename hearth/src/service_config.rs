//! A service's configuration: a TOML file, overridden by the environment.

use anyhow::{Context, bail};
use figment::{
    Figment,
    providers::{Env, Format, Toml},
};
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};

/// Where a service finds its configuration.
#[derive(Debug, clap::Args)]
pub(crate) struct ConfigFile {
    /// The configuration, in TOML.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
}

/// Reads a configuration: `parked-max` in the file is overridden by `{env_prefix}PARKED_MAX`.
pub(crate) fn load<C: DeserializeOwned>(
    file: &Path,
    env_prefix: &str,
    validate: impl Fn(&C) -> Result<(), Vec<String>>,
) -> anyhow::Result<C> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let overrides = Env::prefixed(env_prefix).map(|key| key.as_str().replace('_', "-").into());
    let config: C = Figment::new()
        .merge(Toml::string(&text))
        .merge(overrides)
        .extract()
        .map_err(|error| anyhow::anyhow!("{}: {}", file.display(), mistakes(error)))?;
    if let Err(mistakes) = validate(&config) {
        bail!("{}: {}", file.display(), mistakes.join("; "));
    }
    Ok(config)
}

fn mistakes(error: figment::Error) -> String {
    error.into_iter().map(|one| one.to_string()).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::io::Write;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "kebab-case", deny_unknown_fields)]
    struct Sample {
        lease_ttl_ms: u64,
        name: String,
    }

    fn parse(text: &str) -> anyhow::Result<Sample> {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(text.as_bytes()).expect("it is written");
        load(file.path(), "HEARTH_SAMPLE_", |sample: &Sample| {
            let mut mistakes = Vec::new();
            if sample.lease_ttl_ms == 0 {
                mistakes.push("lease-ttl-ms is 0".to_owned());
            }
            if sample.name.is_empty() {
                mistakes.push("name is empty".to_owned());
            }
            if mistakes.is_empty() { Ok(()) } else { Err(mistakes) }
        })
    }

    #[test]
    fn a_file_is_read_and_its_mistakes_are_named() {
        let read = parse("lease-ttl-ms = 5\nname = \"a\"").expect("it is right");
        assert_eq!(read, Sample { lease_ttl_ms: 5, name: "a".to_owned() });
        let error = parse("lease-ttl-ms = 0\nname = \"\"").expect_err("two mistakes").to_string();
        assert!(error.ends_with(": lease-ttl-ms is 0; name is empty"), "{error}");
        let error = parse("lease-ttl-ms = 5\nname = \"a\"\nnaem = 1").expect_err("unknown").to_string();
        assert!(error.contains("naem"), "{error}");
    }
}
