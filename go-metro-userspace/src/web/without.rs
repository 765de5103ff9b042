//! In place of the page for browsers, in a build without the feature `web`: [`Site::start`] refuses to begin.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{Question, Reply};
use crate::status::Live;

/// There is none.
pub(crate) enum Site {}

impl Site {
    pub(crate) fn start(_: Duration) -> io::Result<(Arc<Self>, mpsc::Sender<Arc<Live>>)> {
        Err(io::Error::other("this go-metro was built without cargo's feature `web`"))
    }

    pub(crate) fn keep(&self, _: Duration) {
        match *self {}
    }

    pub(crate) fn close(&self) {
        match *self {}
    }

    pub(crate) fn hang_up(&self) {
        match *self {}
    }

    pub(crate) fn file(&self, _: &str, _: bool) -> Option<Reply> {
        match *self {}
    }

    pub(crate) fn refuse(&self, _: &str, _: &str) -> Option<Reply> {
        match *self {}
    }

    pub(crate) fn answer(&self, _: &Question) -> Reply {
        match *self {}
    }

    pub(crate) fn follow(&self) -> mpsc::Receiver<Bytes> {
        match *self {}
    }
}
