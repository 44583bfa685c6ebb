//! The engine that is measured.

use anyhow::Result;
use log_store::{
    LogStore,
    embedded::{Config, EmbeddedStore},
};
use std::{path::Path, sync::Arc};

/// Opens the embedded engine as a node does: with its defaults.
pub(crate) async fn open(dir: &Path) -> Result<Arc<dyn LogStore>> {
    let dir = dir.to_owned();
    Ok(tokio::task::spawn_blocking(move || EmbeddedStore::open(&dir, Config::default())).await??)
}
