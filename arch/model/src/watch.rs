//! Nobody watches instructions here: there are none.

use crate::{Cpu, Model};
use arch_contract::watch::Watch;

impl Watch for Model {
    #[inline(always)]
    fn enters_mm(_: &Cpu) {}

    #[inline(always)]
    fn leaves_mm(_: &Cpu) {}
}
