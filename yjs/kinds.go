package yjs

// TypeKind tells the shared types apart. The numbers are those of the wire.
type TypeKind uint8

// The kinds of shared types.
const (
	KindArray       TypeKind = 0
	KindMap         TypeKind = 1
	KindText        TypeKind = 2
	KindXMLElement  TypeKind = 3
	KindXMLFragment TypeKind = 4
	KindXMLHook     TypeKind = 5
	KindXMLText     TypeKind = 6

	// kindUntyped is a root that has been written to by a peer and not yet been
	// asked for: the wire does not say what it is.
	kindUntyped TypeKind = 255
)

func (k TypeKind) named() bool { return k == KindXMLElement || k == KindXMLHook }

// String returns the name of the kind.
func (k TypeKind) String() string {
	names := [...]string{"Array", "Map", "Text", "XMLElement", "XMLFragment", "XMLHook", "XMLText"}
	if int(k) < len(names) {
		return names[k]
	}
	return "untyped"
}
