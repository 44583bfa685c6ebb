//! Reads frames of segments, a window of the file at a time.

use super::{
    errors::io_error,
    frame::{self, Fault, Header, Location},
    segment::{Segment, Segments},
};
use crate::StoreError;
use bytes::Bytes;
use std::{io::ErrorKind, sync::Arc};

/// Frames that lie no farther apart than this are read at once, with what lies between them: a call to the
/// operating system costs about as much as copying so many bytes.
const GAP_MAX_BYTES: u32 = 4 * 1024;
/// The most bytes that are read at once on that account.
const SPAN_MAX_BYTES: u32 = 128 * 1024;

/// Reads frames.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    segments: &'a Segments,
    window_bytes: usize,
    window: Option<Window>,
    /// Where the frames are that will be asked for, ascending.
    spans: Vec<Span>,
    waits: bool,
    would_wait: bool,
}

#[derive(Debug)]
struct Window {
    segment: Arc<Segment>,
    begin: u64,
    bytes: Bytes,
}

/// Frames to read at once.
#[derive(Debug, Clone, Copy)]
struct Span {
    first: Location,
    /// The origin of the last one, in the same segment.
    last_origin: u32,
}

impl<'a> Reader<'a> {
    /// A reader that asks the operating system for `window_bytes` at once.
    pub(crate) fn new(segments: &'a Segments, window_bytes: usize) -> Self {
        Self { segments, window_bytes, window: None, spans: Vec::new(), waits: true, would_wait: false }
    }

    /// A reader that fails rather than wait for a disk, and then says so in [`Reader::would_wait`].
    pub(crate) fn of_cached(segments: &'a Segments, window_bytes: usize) -> Self {
        Self { waits: false, ..Self::new(segments, window_bytes) }
    }

    /// Whether it failed because it may not wait: then its error says nothing about the store.
    pub(crate) const fn would_wait(&self) -> bool {
        self.would_wait
    }

    /// Tells which frames will be asked for, so that those that lie close together are read at once.
    pub(crate) fn expect(&mut self, locations: &[Location]) {
        let mut ascending = locations.to_vec();
        ascending.sort_unstable();
        self.spans.clear();
        for location in ascending {
            match self.spans.last_mut() {
                Some(span)
                    if span.first.segment == location.segment
                        && location.origin - span.last_origin <= GAP_MAX_BYTES
                        && location.origin - span.first.origin <= SPAN_MAX_BYTES =>
                {
                    span.last_origin = location.origin;
                }
                _ => self.spans.push(Span { first: location, last_origin: location.origin }),
            }
        }
    }

    pub(crate) fn segment(&mut self, number: u32) -> Result<Arc<Segment>, StoreError> {
        if self.waits {
            return self.segments.get(number);
        }
        self.segments.get_open(number).ok_or_else(|| {
            self.would_wait = true;
            io_error("cannot open", &super::segment::name(number), &ErrorKind::WouldBlock.into())
        })
    }

    /// The frame that was first written at a location, checked.
    ///
    /// # Errors
    /// `Damaged`, with the place; `Io`.
    pub(crate) fn frame(&mut self, location: Location) -> Result<(Header, Bytes), StoreError> {
        let segment = match &self.window {
            Some(window) if window.segment.number == location.segment => window.segment.clone(),
            _ => self.segment(location.segment)?,
        };
        let mut at = u64::from(segment.near(location.origin));
        loop {
            let (header, payload) = match self.checked(&segment, at)? {
                Ok(found) => found,
                Err(fault) => return Err(self.damaged(&segment, at, describe(fault))),
            };
            let found = header.location;
            if found == location {
                return Ok((header, payload));
            }
            let walks = segment.table.is_some();
            if !walks || found.segment != location.segment || found.origin > location.origin {
                return Err(self.damaged(&segment, at, "another frame stands here than was written"));
            }
            at += header.stride() as u64;
        }
    }

    /// What was written to a segment is not there any more.
    pub(crate) fn damaged(&self, segment: &Segment, at: u64, what: &str) -> StoreError {
        self.segments.report(segment.damaged(at, what))
    }

    /// The frame at a place of a segment, checked; or what is wrong with the bytes there.
    pub(crate) fn checked(
        &mut self,
        segment: &Arc<Segment>,
        at: u64,
    ) -> Result<Result<(Header, Bytes), Fault>, StoreError> {
        if segment.frames_end().is_some_and(|end| at >= u64::from(end)) {
            return Ok(Err(Fault::Empty));
        }
        let mut bytes = self.bytes(segment, at, frame::HEADER_BYTES)?;
        if let Err(Fault::Short(needed)) = frame::check(&bytes) {
            bytes = self.bytes(segment, at, needed)?;
        }
        Ok(match frame::check(&bytes) {
            Ok(header) => {
                let end = frame::HEADER_BYTES + header.payload_bytes;
                Ok((header, bytes.slice(frame::HEADER_BYTES..end)))
            }
            Err(Fault::Short(_)) if bytes.iter().all(|byte| *byte == 0) => Err(Fault::Empty),
            Err(fault) => Err(fault),
        })
    }

    /// The bytes from a place on: at least `needed`, or up to the file's end.
    fn bytes(&mut self, segment: &Arc<Segment>, at: u64, needed: usize) -> Result<Bytes, StoreError> {
        let window = self.window.as_ref().filter(|window| Arc::ptr_eq(&window.segment, segment));
        if let Some(window) = window
            && at >= window.begin
            && at + needed as u64 <= window.begin + window.bytes.len() as u64
        {
            return Ok(window.bytes.slice((at - window.begin) as usize..));
        }
        let Some(span) = self.span_at(segment, at) else {
            let bytes = self.read(segment, at, needed.max(self.window_bytes))?;
            self.window = Some(Window { segment: segment.clone(), begin: at, bytes: bytes.clone() });
            return Ok(bytes);
        };
        let begin = u64::from(span.first.origin);
        if window.is_some_and(|window| window.begin == begin) {
            // The span's last frame is longer than was foreseen.
            return self.read(segment, at, needed);
        }
        let span_bytes = (span.last_origin - span.first.origin) as usize + self.window_bytes;
        let bytes = self.read(segment, begin, span_bytes.max((at - begin) as usize + needed))?;
        self.window = Some(Window { segment: segment.clone(), begin, bytes: bytes.clone() });
        Ok(bytes.slice(((at - begin) as usize).min(bytes.len())..))
    }

    /// The span that a place is in. A rewritten segment holds its frames elsewhere than at their origins.
    fn span_at(&self, segment: &Segment, at: u64) -> Option<Span> {
        let here = Location { segment: segment.number, origin: u32::try_from(at).ok()? };
        let behind = self.spans.partition_point(|span| span.first <= here);
        let span = self.spans[behind.checked_sub(1)?];
        let is_in = span.first.segment == segment.number && here.origin <= span.last_origin;
        (is_in && segment.table.is_none()).then_some(span)
    }

    fn read(&mut self, segment: &Segment, at: u64, bytes: usize) -> Result<Bytes, StoreError> {
        let mut buffer = vec![0; bytes];
        let read = match self.waits {
            true => segment.file.read_at(at, &mut buffer),
            false => segment.file.read_cached_at(at, &mut buffer),
        };
        let read = read.map_err(|error| {
            self.would_wait = !self.waits && error.kind() == ErrorKind::WouldBlock;
            let would_wait = self.would_wait;
            let error = io_error("cannot read", &segment.name, &error);
            if would_wait { error } else { self.segments.report(error) }
        })?;
        buffer.truncate(read);
        Ok(buffer.into())
    }
}

pub(crate) const fn describe(fault: Fault) -> &'static str {
    match fault {
        Fault::Short(_) => "the file ends inside a frame",
        Fault::Empty => "nothing is written where a frame should be",
        Fault::Bad(what) => what,
    }
}
