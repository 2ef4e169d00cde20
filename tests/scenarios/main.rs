//! Whole labs in memory, a frame at a time: what arrives where, and which counters moved.

mod forwarding;
mod fragments;
mod icmp;
mod lab;
mod masquerade;
mod neighbours;
mod refusals;
mod services;
