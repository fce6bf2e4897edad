// The sumdb packages are those that Go's own distribution carries; ../run copies them beside a copy of this folder.
module interop

go 1.25

require golang.org/x/mod v0.0.0

replace golang.org/x/mod => ./xmod
