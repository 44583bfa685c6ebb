//! The numbers of the fields, as `log.proto` gives them.

/// The numbers of the fields of `Record`.
pub(super) mod record {
    pub(crate) const LSN: u32 = 1;
    pub(crate) const EPOCH: u32 = 2;
    pub(crate) const GENERATION: u32 = 3;
    pub(crate) const LOG: u32 = 4;
    pub(crate) const ACCEPTED_AT_MS: u32 = 5;
    pub(crate) const ENTRY: u32 = 6;
}

/// The numbers of the fields of `Entry`, and of the one of `Message`.
pub(super) mod entry {
    pub(crate) const OFFSET: u32 = 1;
    pub(crate) const SENDER: u32 = 2;
    pub(crate) const DEVICE: u32 = 3;
    pub(crate) const MESSAGE_ID: u32 = 4;
    pub(crate) const EXPIRES_AT_MS: u32 = 5;
    pub(crate) const MESSAGE: u32 = 7;
    pub(crate) const SALVAGED: u32 = 10;
    pub(crate) const ABOUT: u32 = 31;
    pub(crate) const CIPHERTEXT: u32 = 1;
}
