//! Measures the log store on this machine's disk: appends, pages, reopening.
//!
//! It refuses a folder that is not on a disk, and measures the machine before the store, so that figures
//! of two machines can be compared.

mod appends;
mod args;
mod disk;
mod engine;
mod load;
mod machine;
mod pages;
mod report;
mod usage;

use anyhow::Result;
use clap::Parser;

fn main() -> Result<()> {
    let args = args::Args::parse();
    disk::refuse_memory(&args.dir)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if let Some(records) = args.fill_and_abort {
        return runtime.block_on(pages::fill_and_abort(&args, records));
    }
    let mut report = report::Report::new(args.json);
    if !args.skip_machine {
        machine::measure(&args.dir, &mut report)?;
    }
    runtime.block_on(async {
        for in_flight in &args.in_flight {
            appends::measure(&args, *in_flight, &mut report).await?;
        }
        if args.records > 0 {
            pages::measure(&args, &mut report).await?;
        }
        Ok(())
    })
}
