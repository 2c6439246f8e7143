! client.c in Fortran, whose arrays are column-major: the strides say so.
module biv
  use, intrinsic :: iso_c_binding
  implicit none
  integer(c_int32_t), parameter :: biv_ok = 0, biv_f64 = 2

  type, bind(c) :: biv_array
    type(c_ptr) :: data = c_null_ptr
    integer(c_int32_t) :: dtype = biv_f64, rank = 0
    type(c_ptr) :: shape = c_null_ptr, strides = c_null_ptr
    integer(c_int64_t) :: size = 0
  end type

  type, bind(c) :: biv_metrics
    integer(c_size_t) :: struct_size
    integer(c_int64_t) :: rows
    real(c_double) :: mse, rmse, mae, r2, normalized_mse, normalized_rmse, normalized_mae, weighted_rmse
    real(c_double) :: expected_rmse, mean_z2, nlpd, coverage_68, coverage_95
  end type

  interface
    integer(c_int32_t) function biv_set_num_threads(threads) bind(c)
      import
      integer(c_int32_t), value :: threads
    end function
    integer(c_int32_t) function biv_dataset_create_from_arrays(features, labels, variances, out) bind(c)
      import
      type(biv_array) :: features, labels, variances
      type(c_ptr) :: out
    end function
    integer(c_int32_t) function biv_model_create(options, out) bind(c)
      import
      character(kind=c_char) :: options(*)
      type(c_ptr) :: out
    end function
    integer(c_int32_t) function biv_trainer_create(model, dataset, options, out) bind(c)
      import
      type(c_ptr), value :: model, dataset
      character(kind=c_char) :: options(*)
      type(c_ptr) :: out
    end function
    integer(c_int32_t) function biv_trainer_fit(trainer, epochs, test, callback, user) bind(c)
      import
      type(c_ptr), value :: trainer
      integer(c_int64_t), value :: epochs
      type(c_ptr), value :: test, user
      type(c_funptr), value :: callback
    end function
    integer(c_int32_t) function biv_trainer_evaluate(trainer, dataset, out) bind(c)
      import
      type(c_ptr), value :: trainer, dataset
      type(biv_metrics) :: out
    end function
    subroutine biv_trainer_free(trainer) bind(c)
      import
      type(c_ptr), value :: trainer
    end subroutine
    subroutine biv_model_free(model) bind(c)
      import
      type(c_ptr), value :: model
    end subroutine
    subroutine biv_dataset_free(dataset) bind(c)
      import
      type(c_ptr), value :: dataset
    end subroutine
  end interface
end module

program client
  use biv
  implicit none
  integer, parameter :: rows = 256, columns = 8
  real(c_double), target :: x(rows, columns), y(rows), v(rows)
  integer(c_int64_t), target :: shape(2) = [rows, columns], strides(2) = [1, rows]
  type(biv_array) :: features, labels, variances
  type(c_ptr) :: data, model, trainer
  type(biv_metrics) :: metrics
  integer :: i, j

  do j = 1, columns
    do i = 1, rows
      x(i, j) = mod(((i - 1) * columns + j - 1) * 37, 101) / 64d0
    end do
  end do
  y = x(:, 1) - 2 * x(:, 2) * x(:, 3)
  v(1::2) = 4
  v(2::2) = 0.0625d0
  features = biv_array(data=c_loc(x), rank=2, shape=c_loc(shape), strides=c_loc(strides))
  labels = biv_array(data=c_loc(y), rank=1, shape=c_loc(shape))
  variances = biv_array(data=c_loc(v), rank=1, shape=c_loc(shape))

  call check(biv_set_num_threads(1))
  call check(biv_dataset_create_from_arrays(features, labels, variances, data))
  call check(biv_model_create(argument(1), model))
  call check(biv_trainer_create(model, data, argument(2), trainer))
  call check(biv_trainer_fit(trainer, 5_c_int64_t, c_null_ptr, c_null_funptr, c_null_ptr))
  metrics%struct_size = c_sizeof(metrics)
  call check(biv_trainer_evaluate(trainer, data, metrics))
  print '(f19.17)', metrics%rmse
  call biv_trainer_free(trainer)
  call biv_model_free(model)
  call biv_dataset_free(data)

contains
  subroutine check(status)
    integer(c_int32_t), intent(in) :: status
    if (status /= biv_ok) error stop status
  end subroutine

  function argument(number) result(text)
    integer, intent(in) :: number
    character(len=1000, kind=c_char) :: text
    call get_command_argument(number, text)
    text(len_trim(text) + 1:) = c_null_char
  end function
end program
