//! Transcripts: what an agent wrote, and what it means.
