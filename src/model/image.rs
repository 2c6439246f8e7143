//! The size of the images that a network takes.

use super::init::elements;
use crate::Result;
use crate::base::options::require;

/// The size of the images that a network takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Image {
    pub channels: usize,
    pub height: usize,
    pub width: usize,
}

impl Image {
    pub(super) fn shape(self) -> Vec<usize> {
        vec![self.channels, self.height, self.width]
    }

    pub(super) fn validate(self) -> Result<()> {
        require(self.height >= 1, "model.height", self.height, "at least 1")?;
        require(self.width >= 1, "model.width", self.width, "at least 1")?;
        require(self.channels >= 1, "model.channels", self.channels, "at least 1")?;
        elements(&self.shape()).map(|_| ())
    }
}
