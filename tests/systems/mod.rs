mod documents;
mod judge;
mod twins;
