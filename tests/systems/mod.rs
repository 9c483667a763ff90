mod documents;
mod twins;
