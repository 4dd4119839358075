//! The log in files beyond what every backend promises: what is on disk, what a crash leaves, who else writes.

mod damage;
mod model;
mod reading;
mod recovery;
mod scene;
mod writers;
