//! What to do about one claimed object.
