package protocol_test

import (
	"bytes"
	"fmt"

	"github.com/halcyon-db/halcyon/protocol"
)

func Example() {
	m, err := protocol.DecodeClient([]byte(`{"type":"Mutation","requestId":0,"udfPath":"chat:send","args":[{"body":"hi"}]}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	call := m.(*protocol.Mutation)
	args, err := protocol.ArgsObject(call.Args)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s %s\n", call.Path, args)

	answer := protocol.MutationResponse{RequestID: call.RequestID, Success: true, Value: []byte("null"), TS: 1020}
	fmt.Printf("%s\n", answer.Append(nil))
	// Output:
	// chat:send {"body":"hi"}
	// {"type":"MutationResponse","requestId":0,"success":true,"result":null,"ts":"/AMAAAAAAAA=","logLines":[]}
}

// One result goes to many connections: its body is made once, and each of them
// gets its own envelope around it.
func ExampleAppendTransitionStart() {
	body := protocol.AppendQueryUpdated(nil, []byte(`{"online":3}`), nil, nil)
	for _, queryID := range []uint32{0, 4} {
		text := protocol.AppendTransitionStart(nil, protocol.Version{QuerySet: 1, TS: 1010}, protocol.Version{QuerySet: 1, TS: 1020})
		text = protocol.AppendModificationStart(text, queryID)
		text = append(text, body...)
		text = protocol.AppendTransitionEnd(text, nil, nil)
		fmt.Printf("%s\n", text[bytes.IndexByte(text, '['):])
	}
	// Output:
	// [{"queryId":0,"type":"QueryUpdated","value":{"online":3},"logLines":[],"journal":null}]}
	// [{"queryId":4,"type":"QueryUpdated","value":{"online":3},"logLines":[],"journal":null}]}
}
