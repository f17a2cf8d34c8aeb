//! Source formats in, stores out, and back.
