#![no_std]
pub struct Model;
