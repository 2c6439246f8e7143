/* client_swig.py: SWIG reads biv.h as it is. */
%module client_swig_biv
%{
#include <biv.h>
%}
%include <stdint.i>
%include <carrays.i>
%include <cpointer.i>
%array_class(double, doubles);
%array_class(int64_t, sizes);
%pointer_functions(biv_dataset *, dataset_out);
%pointer_functions(biv_model *, model_out);
%pointer_functions(biv_trainer *, trainer_out);
%include <biv.h>
