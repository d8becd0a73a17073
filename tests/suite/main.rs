//! Drives the real binary as a user would: one module for each thing that it is to do.

mod adaptive;
mod calibrate;
mod common;
mod compare;
mod datagrams;
mod engines;
mod exports;
mod failures;
mod faults;
mod halves;
mod held;
mod help;
mod known_answers;
mod layers;
mod live;
mod network;
mod options;
mod pacing;
mod ports;
mod ports_command;
mod record;
mod scheduling;
mod stamps;
mod strategies;
