//! In whose name something is changed.

/// Who answers for a change.
#[derive(Debug, clap::Args)]
pub(super) struct By {
    /// In whose name, for the audit trail [default: whoever is logged in]
    #[arg(long = "by", value_name = "NAME")]
    name: Option<String>,
}

impl By {
    /// The name that was given, or that of whoever is logged in; empty where neither is known.
    pub(super) fn name(self) -> String {
        let logged_in = || std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_default();
        self.name.unwrap_or_else(logged_in)
    }
}
