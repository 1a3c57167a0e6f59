pub struct Damage;
pub struct Report;
pub fn verify() {}
