//! The embedded engine against crashes, damage, a full disk and the wish to forget.

mod crash;
mod damage;
mod erase;
mod kill;
mod support;
