//! Pages of a long chat, over REST.

use super::{Bench, blocking};
use crate::commands::bench::{
    args::{Places, Writing, within},
    load::{self, Party, Plan, Tally},
    report::{Counts, Latency, Report, figure},
    servers::{Http, Role, Seen, Servers},
};
use anyhow::{Context as _, Result, bail};
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};
use serde::Deserialize;
use std::thread;

/// Entries of a page.
const PAGE_ENTRIES: usize = 50;
/// Messages that the writer has under way: it fills the chat, and is not what is measured.
const FILLING_WINDOW: usize = 512;
/// A chat so many times shorter shows whether pages cost more in a longer one.
const SHORTER: usize = 100;
/// Each so many pages, one is parsed and counted.
const CHECKED_EVERY: u64 = 64;
/// The longest that filling may take.
const FILLING_SECONDS_MAX: u64 = 1_800;

/// Pages of 50 entries from random positions of a chat that is filled first, and of one a hundredth as long.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct History {
    /// How many messages the chat has.
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    pub(crate) messages: usize,
    /// How many readers ask for one page after another.
    #[arg(long, default_value_t = 4, value_name = "N")]
    pub(crate) readers: usize,
    /// Bytes of random body.
    #[arg(long, default_value_t = 400, value_name = "N")]
    pub(crate) body_bytes: usize,
    /// Seconds that count, of each chat.
    #[arg(long, default_value_t = 8, value_name = "N")]
    pub(crate) seconds: u64,
}

/// What one chat's pages took.
struct Paged {
    tally: Tally,
    seen: Seen,
    written_per_s: f64,
}

impl History {
    pub(crate) fn check(&self) -> Result<()> {
        within("messages", self.messages, SHORTER * PAGE_ENTRIES..=100_000_000)?;
        within("readers", self.readers, 1..=256)?;
        Writing { body_bytes: self.body_bytes, ..Writing::new(self.seconds) }.check()
    }

    pub(crate) async fn run(&self, bench: &Bench) -> Result<Report> {
        let what = format!(
            "{} readers, pages of {PAGE_ENTRIES} at random positions of a chat of {} messages of {} bytes, {} s",
            self.readers, self.messages, self.body_bytes, self.seconds
        );
        let mut report = bench.report("history", what);
        let mut shape = bench.shape(&Places::default(), 2, 1)?;
        // Nobody needs to follow a chat that is only filled.
        shape.reader_edges.clear();
        let http = bench.deployment.region(None)?.http.clone();
        let (args, servers) = (self.clone(), Servers::of(&bench.deployment));
        let measure = move || {
            let page = |messages: usize| {
                let party = load::connect_all(&shape, 1)?.pop().context("one party was asked for")?;
                args.fill_and_page(party, &http, messages, &servers)
            };
            Ok((page(args.messages / SHORTER)?, page(args.messages)?, servers))
        };
        let (short, long, servers) = blocking(measure).await?;

        let pages = long.tally.delivered as f64;
        report.put(figure::MESSAGES, self.messages as f64);
        report.put(figure::WRITTEN, long.written_per_s);
        report.put(figure::PAGES, pages / long.seen.seconds);
        report.put(figure::PAGES_SHORT, short.tally.delivered as f64 / short.seen.seconds);
        report.add_usage(&servers, &long.seen, Counts { messages: 0.0, deliveries: 0.0, body_bytes: 0 });
        let of_servers = report.processes.iter().filter(|process| process.role == Role::Server);
        let cpu_us: f64 = of_servers.map(|process| process.user_us + process.system_us).sum();
        report.put(figure::CPU_PER_PAGE, cpu_us / pages.max(1.0));
        report.latencies.push(Latency::of("page", &long.tally.deliveries_us()));
        report.latencies.push(Latency::of("page of the shorter chat", &short.tally.deliveries_us()));
        report.put_rates(&long.tally);
        Ok(report)
    }

    fn fill_and_page(&self, party: Party, http: &str, messages: usize, servers: &Servers) -> Result<Paged> {
        let (log, user) = (party.logs()[0].clone(), party.owner().to_string());
        let filling = Writing {
            window: FILLING_WINDOW,
            body_bytes: self.body_bytes,
            ..Writing::new(FILLING_SECONDS_MAX)
        };
        let plan = Plan { messages_max: messages as u64, ..filling.plan(1) };
        let filled = load::run(&plan, vec![party], 1)?;
        if let Some((code, count)) = filled.refused.first_key_value() {
            bail!("filling the chat: {count} messages were refused with {code}");
        }
        let written_per_s = messages as f64 / (filled.took_us as f64 / 1e6);
        let positions = positions(http, &log, &user, messages)?;
        let plan = Writing { warmup_seconds: 1, ..Writing::new(self.seconds) }.plan(1);
        let paths: Vec<_> = positions
            .iter()
            .map(|position| format!("/v1/chats/{log}/messages?after={position}&limit={PAGE_ENTRIES}"))
            .collect();
        let (tally, seen) = servers.watch(&plan, || {
            thread::scope(|scope| {
                let read = |seed| {
                    let (plan, paths, user) = (&plan, &paths, &user);
                    move || read(plan, http, user, paths, seed)
                };
                let readers: Vec<_> = (0..self.readers).map(|seed| scope.spawn(read(seed as u64))).collect();
                let mut tally = Tally::new(1);
                for reader in readers {
                    tally.add(reader.join().expect("a panic aborts")?);
                }
                Ok(tally)
            })
        })?;
        Ok(Paged { tally, seen, written_per_s })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    #[serde(default)]
    entries: Vec<Entry>,
    #[serde(default)]
    at_end: bool,
}

#[derive(Deserialize)]
struct Entry {
    position: String,
}

/// Walks a chat once from its beginning, counts its entries, and keeps positions that have a full page behind
/// them.
fn positions(http: &str, log: &str, user: &str, messages: usize) -> Result<Vec<String>> {
    const LIMIT: usize = types::limits::PAGE_MAX_ENTRIES;
    const KEPT_EVERY: usize = 10;
    let mut http = Http::connect(http)?;
    let (mut kept, mut count, mut after) = (Vec::new(), 0, String::new());
    loop {
        let page = http.get(&format!("/v1/chats/{log}/messages?after={after}&limit={LIMIT}"), user)?;
        let page: Page = serde_json::from_slice(page).context("a page")?;
        for entry in &page.entries {
            if count % KEPT_EVERY == 0 && count + PAGE_ENTRIES < messages {
                kept.push(entry.position.clone());
            }
            count += 1;
        }
        match page.entries.into_iter().next_back() {
            Some(last) => after = last.position,
            None => break,
        }
        if page.at_end {
            break;
        }
    }
    // The entry with which the chat was created is one more.
    if count != messages + 1 {
        bail!("the chat has {count} entries, not {messages} and the one that created it");
    }
    Ok(kept)
}

/// One reader: each arrival is a page.
fn read(plan: &Plan, http: &str, user: &str, paths: &[String], seed: u64) -> Result<Tally> {
    let mut http = Http::connect(http)?;
    let mut random = SmallRng::seed_from_u64(seed);
    let (mut tally, mut asked) = (Tally::new(1), plan.now());
    for number in 0.. {
        let page = http.get(&paths[random.random_range(0..paths.len())], user)?;
        let now = plan.now();
        if number % CHECKED_EVERY == 0 {
            let page: Page = serde_json::from_slice(page).context("a page")?;
            if page.entries.len() != PAGE_ENTRIES {
                bail!("a page has {} entries, not {PAGE_ENTRIES}", page.entries.len());
            }
        }
        if plan.span.counts(now) {
            tally.deliver(now - plan.span.counts_from);
            tally.deliver_us[0].saturating_record(now - asked);
        }
        if now >= plan.span.sends_until {
            break;
        }
        asked = plan.now();
    }
    Ok(tally)
}
