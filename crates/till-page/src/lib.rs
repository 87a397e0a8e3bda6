//! till-page
