//! The folder of a deployment: data, configurations, logs, and what it was first used with.
//!
//! ```text
//!   DIR/lab.toml      the regions, partitions, nodes and base port it was made with
//!   DIR/lock          held by the `up` that uses it
//!   DIR/config/*.toml written anew at each start
//!   DIR/data/NAME/    what each process keeps
//!   DIR/logs/NAME.log what each process says
//! ```

use crate::options::{
    DirectoryShape, NODES_PER_REGION_DEFAULT, Options, PARTITIONS_PER_REGION_DEFAULT, REGIONS_DEFAULT, Shape,
};
use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};
use types::RegionId;

/// A folder that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The system refuses something.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// Another deployment runs in it.
    #[error("{0} is in use by another deployment")]
    InUse(String),
    /// It was made with something else than is asked for now.
    #[error("{path} was made with {what} {then}, not {now}: leave the option out, or use another folder")]
    Mismatch {
        /// The folder.
        path: String,
        /// Which option.
        what: &'static str,
        /// What it was made with.
        then: String,
        /// What is asked for.
        now: String,
    },
    /// `lab.toml` cannot be read.
    #[error("{path}: {why}")]
    Damaged {
        /// Which file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
}

/// An open folder, locked against a second deployment. A temporary one is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    _lock: File,
    temporary: Option<tempfile::TempDir>,
}

impl Folder {
    /// Opens the folder that the options name, and settles what the deployment looks like.
    pub(crate) fn open(options: &Options) -> Result<(Self, Shape), FolderError> {
        let (path, temporary) = match &options.dir {
            Some(dir) => {
                fs::create_dir_all(dir).map_err(|source| io_error(dir, source))?;
                (fs::canonicalize(dir).map_err(|source| io_error(dir, source))?, None)
            }
            None => {
                let dir = tempfile::Builder::new()
                    .prefix("hearth-")
                    .tempdir()
                    .map_err(|source| io_error(&std::env::temp_dir(), source))?;
                (dir.path().to_owned(), Some(dir))
            }
        };
        let lock = lock(&path)?;
        let folder = Self { path, _lock: lock, temporary };
        let shape = folder.settle(options)?;
        for part in ["config", "data", "logs"] {
            let part = folder.path.join(part);
            fs::create_dir_all(&part).map_err(|source| io_error(&part, source))?;
        }
        Ok((folder, shape))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn is_temporary(&self) -> bool {
        self.temporary.is_some()
    }

    pub(crate) fn data(&self, process: &str) -> PathBuf {
        self.path.join("data").join(process)
    }

    pub(crate) fn log(&self, process: &str) -> PathBuf {
        self.path.join("logs").join(format!("{process}.log"))
    }

    pub(crate) fn write_config(&self, process: &str, config: &toml::Table) -> Result<PathBuf, FolderError> {
        let path = self.path.join("config").join(format!("{process}.toml"));
        fs::write(&path, config.to_string()).map_err(|source| io_error(&path, source))?;
        Ok(path)
    }

    fn settle(&self, options: &Options) -> Result<Shape, FolderError> {
        let file = self.path.join("lab.toml");
        match fs::read_to_string(&file) {
            Ok(text) => {
                let damaged = |error: toml::de::Error| FolderError::Damaged {
                    path: file.display().to_string(),
                    why: error.to_string(),
                };
                let mut shape: Shape = toml::from_str(&text).map_err(damaged)?;
                self.check(&shape, options)?;
                if let Some(more) = options.nodes_per_region.filter(|now| *now > shape.nodes_per_region) {
                    shape.nodes_per_region = more;
                    write_shape(&file, &shape)?;
                }
                Ok(shape)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let shape = Shape {
                    regions: options.regions.clone().unwrap_or_else(default_regions),
                    partitions_per_region: options
                        .partitions_per_region
                        .unwrap_or(PARTITIONS_PER_REGION_DEFAULT),
                    nodes_per_region: options.nodes_per_region.unwrap_or(NODES_PER_REGION_DEFAULT),
                    base_port: options.base_port.or(options.base_port_default),
                    directory: options.directory.unwrap_or(DirectoryShape::Group),
                };
                write_shape(&file, &shape)?;
                Ok(shape)
            }
            Err(source) => Err(io_error(&file, source)),
        }
    }

    fn check(&self, shape: &Shape, options: &Options) -> Result<(), FolderError> {
        let mismatch = |what, then: String, now: String| {
            Err(FolderError::Mismatch { path: self.path.display().to_string(), what, then, now })
        };
        if let Some(regions) = options.regions.as_ref().filter(|regions| **regions != shape.regions) {
            return mismatch("regions", names(&shape.regions), names(regions));
        }
        if let Some(now) = options.partitions_per_region.filter(|now| *now != shape.partitions_per_region) {
            return mismatch(
                "partitions per region",
                shape.partitions_per_region.to_string(),
                now.to_string(),
            );
        }
        if let Some(now) = options.nodes_per_region.filter(|now| *now < shape.nodes_per_region) {
            return mismatch("nodes per region", shape.nodes_per_region.to_string(), now.to_string());
        }
        if let Some(now) = options.directory.filter(|now| *now != shape.directory) {
            return mismatch("directory", format!("{:?}", shape.directory), format!("{now:?}"));
        }
        if let Some(now) = options.base_port.filter(|now| Some(*now) != shape.base_port) {
            let then = shape.base_port.map_or_else(|| "none".to_owned(), |port| port.to_string());
            return mismatch("base port", then, now.to_string());
        }
        Ok(())
    }
}

fn write_shape(file: &Path, shape: &Shape) -> Result<(), FolderError> {
    let text = toml::to_string(shape).expect("names and numbers are TOML");
    fs::write(file, text).map_err(|source| io_error(file, source))
}

fn default_regions() -> Vec<RegionId> {
    REGIONS_DEFAULT.iter().map(|name| RegionId::new(name).expect("the built-in names are valid")).collect()
}

fn names(regions: &[RegionId]) -> String {
    regions.iter().map(RegionId::as_str).collect::<Vec<_>>().join(",")
}

fn lock(folder: &Path) -> Result<File, FolderError> {
    let path = folder.join("lock");
    let file = File::create(&path).map_err(|source| io_error(&path, source))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(FolderError::InUse(folder.display().to_string())),
        Err(TryLockError::Error(source)) => Err(io_error(&path, source)),
    }
}

fn io_error(path: &Path, source: io::Error) -> FolderError {
    FolderError::Io { path: path.display().to_string(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(dir: &Path) -> Options {
        Options { dir: Some(dir.to_owned()), ..Options::new("hearth") }
    }

    #[test]
    fn a_folder_is_used_again_only_with_what_it_was_made_with() {
        let dir = tempfile::tempdir().expect("a folder");
        let first = Options { partitions_per_region: Some(8), base_port: Some(7_500), ..options(dir.path()) }
            .with_regions(["a", "b"])
            .expect("regions");
        let (folder, shape) = Folder::open(&first).expect("it opens");
        drop(folder);
        let (folder, again) = Folder::open(&options(dir.path())).expect("it opens with no options");
        assert_eq!(again, shape);
        drop(folder);
        let other = options(dir.path()).with_regions(["a", "c"]).expect("regions");
        let error = Folder::open(&other).expect_err("other regions").to_string();
        assert!(error.contains("made with regions a,b, not a,c"), "{error}");
        let more = Options { nodes_per_region: Some(3), ..options(dir.path()) };
        let (folder, grown) = Folder::open(&more).expect("nodes can be added");
        assert_eq!(grown, Shape { nodes_per_region: 3, ..shape });
        drop(folder);
        let fewer = Options { nodes_per_region: Some(2), ..options(dir.path()) };
        let error = Folder::open(&fewer).expect_err("fewer nodes").to_string();
        assert!(error.contains("made with nodes per region 3, not 2"), "{error}");
        let other = Options { base_port: Some(7_400), ..options(dir.path()) };
        let error = Folder::open(&other).expect_err("another port").to_string();
        assert!(error.contains("made with base port 7500, not 7400"), "{error}");
    }

    #[test]
    fn two_deployments_never_share_a_folder() {
        let dir = tempfile::tempdir().expect("a folder");
        let _held = Folder::open(&options(dir.path())).expect("it opens");
        assert!(matches!(Folder::open(&options(dir.path())), Err(FolderError::InUse(_))));
    }

    #[test]
    fn a_temporary_folder_is_removed() {
        let (folder, shape) = Folder::open(&Options::new("hearth")).expect("it opens");
        let path = folder.path().to_owned();
        assert_eq!(names(&shape.regions), "us-east,eu-west,ap-south");
        assert!(folder.is_temporary() && path.exists());
        drop(folder);
        assert!(!path.exists());
    }
}
