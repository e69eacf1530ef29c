// Package halcyon is what an app is written against: tables of Go structs, queries that stay live, and mutations that are transactions.
//
// A [Module] is a unit of an app. It lists its tables and declares functions, which clients call by the path "module:function":
//
//	var Tasks = halcyon.NewTable[Task]("tasks").Index("by_done", "done")
//
//	func add(tx *halcyon.Tx, args AddArgs) (halcyon.ID[Task], error) {
//		return Tasks.Insert(tx, Task{Text: args.Text})
//	}
//
//	func Module() *halcyon.Module {
//		m := halcyon.NewModule("tasks", Tasks)
//		m.Mutation("add", add)
//		m.Query("open", open)
//		return m
//	}
//
// An [App] mounts modules on a database. Programs usually leave this to package cli, whose Main is all of their main function; tests open
// an App themselves, as the example does.
//
// # Functions
//
// A function is a func(*Tx, Args) (Result, error). A query reads one snapshot, and is run again for everyone who watches it when what it
// read changes. A mutation is a serializable transaction: it takes effect once and as a whole, whatever else happens at the same time. It
// does not fail because others write; in return the engine may execute it several times, so a function must not do anything but use its
// [Tx], which also has the time and randomness. Calling another function, of this or of another module, is a plain Go call.
//
// An [Error] that a function returns reaches the client with its code and message. Any other error, and a panic, undoes the call, is
// logged in full, and is told to the client as "Server Error" with the id under which it was logged.
//
// An action is a func(*Ctx, Args) (Result, error): no transaction, but free to call other services. [Module.HTTP] makes one of HTTP requests,
// and [Module.Socket] of WebSocket connections.
//
// # Values
//
// Go structs are the schema, the validator of arguments and the shape of results. A field is named by its json tag, or else as the Go
// field in lower camel case.
//
//	Go                                   Convex
//	bool, string                         v.boolean(), v.string()
//	float64, float32, int, int32, ...    v.float64(); integers are checked to be whole and in range
//	int64                                v.int64()
//	[]byte                               v.bytes()
//	time.Time                            v.float64(): milliseconds since 1970, in microsecond steps
//	[]T, map[string]T, struct            v.array(T), v.record(v.string(), T), v.object({...})
//	*T, or `json:",omitzero"`            v.optional(T): absent when nil or zero
//	Shared[T]                            as T; encoded once for all results it is in
//	Nullable[T]                          v.union(T, v.null())
//	ID[T]                                v.id(table)
//	T with a method Values() []T         v.union(v.literal(...), ...), see [Enum]
//	struct that embeds Union             v.union(...), see [Union]
//	any, value.Value                     v.any()
//
// A nil pointer is null where a value can not be absent: inside of arrays and maps, and as a result. The option omitempty means the same
// as omitzero, and also leaves out empty slices and maps. Arguments that do not fit are refused with Convex's own texts, and so is a field
// too many. Stored documents may have fields that their struct no longer has: they are passed over, and gone when the document is replaced.
package halcyon
