package halcyon_test

import (
	"context"
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
)

// Task is a document of the table tasks.
type Task struct {
	ID   halcyon.ID[Task] `halcyon:"id"`
	Text string           `json:"text"`
	Done bool             `json:"done"`
}

var Tasks = halcyon.NewTable[Task]("tasks").Index("by_done", "done")

type AddArgs struct {
	Text string `json:"text"`
}

func add(tx *halcyon.Tx, args AddArgs) (halcyon.ID[Task], error) {
	if args.Text == "" {
		return "", &halcyon.Error{Code: "Empty", Message: "A task needs a text."}
	}
	return Tasks.Insert(tx, Task{Text: args.Text})
}

func open(tx *halcyon.Tx) ([]Task, error) {
	return Tasks.By("by_done").Eq(false).Take(tx, 100)
}

type CloseArgs struct {
	Task halcyon.ID[Task] `json:"task"`
}

func closeTask(tx *halcyon.Tx, args CloseArgs) error {
	return Tasks.Patch(tx, args.Task, halcyon.Fields{"done": true})
}

func tasksModule() *halcyon.Module {
	m := halcyon.NewModule("tasks", Tasks)
	m.Mutation("add", add)
	m.Mutation("close", closeTask)
	m.Query("open", open)
	return m
}

func Example() {
	app, err := halcyon.NewApp(tasksModule())
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := app.Open("data", &halcyon.Options{Engine: engine.Options{FS: vfs.NewMem()}}); err != nil {
		fmt.Println(err)
		return
	}
	defer app.Close()

	ctx := context.Background()
	var milk halcyon.ID[Task]
	for _, text := range []string{"milk", "bread"} {
		if err := app.Run(ctx, "tasks:add", AddArgs{Text: text}, &milk); err != nil {
			fmt.Println(err)
		}
	}
	if err := app.Run(ctx, "tasks:close", CloseArgs{Task: milk}, nil); err != nil {
		fmt.Println(err)
	}

	// What a client sends and gets is a value and an outcome.
	out, err := app.Query(ctx, halcyon.Request{Path: "tasks:open"})
	if err != nil {
		fmt.Println(err)
		return
	}
	for i := range out.Value.Len() {
		fmt.Println(string(value.AppendJSON(nil, out.Value.Index(i).Get("text"))))
	}
	out, _ = app.Mutation(ctx, halcyon.Request{Path: "tasks:add", Args: value.Object()})
	fmt.Println(out.Failure.Message)
	// Output:
	// "milk"
	// ArgumentValidationError: Object is missing the required field `text`. Consider wrapping the field validator in `v.optional(...)` if this is expected.
	//
	// Object: {}
	// Validator: v.object({text: v.string()})
}
