//! Domain values in words, Danish first.

pub(crate) mod attention;
pub(crate) mod chip;
pub(crate) mod decision;
pub(crate) mod line;
pub(crate) mod notice;
pub(crate) mod reader;
pub(crate) mod refusal;
