// client.c in Go, whose cgo asks pkg-config.
package main

/*
#cgo pkg-config: biv
#include <biv.h>
#include <stdlib.h>
*/
import "C"

import (
	"fmt"
	"log"
	"os"
	"unsafe"
)

const rows, columns = 256, 8

func check(status C.biv_status) {
	if status != C.BIV_OK {
		log.Fatal(C.GoString(C.biv_last_error_message()))
	}
}

// array copies the values to C's memory, as Go's must not be pointed to from a struct.
func array(values []float64, shape ...int64) *C.biv_array {
	array := (*C.biv_array)(C.calloc(1, C.sizeof_biv_array))
	array.data = C.CBytes(unsafe.Slice((*byte)(unsafe.Pointer(&values[0])), 8*len(values)))
	array.dtype = C.BIV_F64
	array.rank = C.int32_t(len(shape))
	array.shape = (*C.int64_t)(C.CBytes(unsafe.Slice((*byte)(unsafe.Pointer(&shape[0])), 8*len(shape))))
	return array
}

func main() {
	var x [rows * columns]float64
	var y, v [rows]float64
	for i := range x {
		x[i] = float64(i*37%101) / 64
	}
	for i := range y {
		y[i] = x[columns*i] - 2*x[columns*i+1]*x[columns*i+2]
		v[i] = 4
		if i%2 == 1 {
			v[i] = 0.0625
		}
	}
	var data *C.biv_dataset
	var model *C.biv_model
	var trainer *C.biv_trainer
	check(C.biv_set_num_threads(1))
	check(C.biv_dataset_create_from_arrays(array(x[:], rows, columns), array(y[:], rows), array(v[:], rows), &data))
	check(C.biv_model_create(C.CString(os.Args[1]), &model))
	check(C.biv_trainer_create(model, data, C.CString(os.Args[2]), &trainer))
	check(C.biv_trainer_fit(trainer, 5, nil, nil, nil))
	metrics := C.biv_metrics{struct_size: C.sizeof_biv_metrics}
	check(C.biv_trainer_evaluate(trainer, data, &metrics))
	fmt.Printf("%.17g\n", float64(metrics.rmse))
	C.biv_trainer_free(trainer)
	C.biv_model_free(model)
	C.biv_dataset_free(data)
}
