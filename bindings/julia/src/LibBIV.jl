# The C functions and structs of biv.h, by their C names. test/runtests.jl compares
# them with the header.
module LibBIV

using Libdl

"The functions declared below: their result and their parameters."
const SIGNATURES = Dict{Symbol,Tuple{Any,Vector{Any}}}()

const handle = Ref{Ptr{Cvoid}}(C_NULL)

"Where the library is: in BIV_LIBRARY, else in the checkout that this package is in, else where the system looks."
function candidates()
    root = normpath(joinpath(@__DIR__, "..", "..", ".."))
    built = joinpath(root, "build", "install", "lib", "libbiv.so")
    return haskey(ENV, "BIV_LIBRARY") ? [ENV["BIV_LIBRARY"]] : [built, "libbiv.so.0.1", "libbiv"]
end

function __init__()
    names = candidates()
    for name in names
        found = Libdl.dlopen(name, Libdl.RTLD_NOW | Libdl.RTLD_LOCAL; throw_error=false)
        found === nothing || (handle[] = found; return)
    end
    error("libbiv was not found as ", join(names, ", "), ": set BIV_LIBRARY to the file libbiv.so")
end

"""
    @c name(Type, ...)::Result

Defines the function of the library.
"""
macro c(declaration)
    call, result = declaration.args
    name, types = call.args[1], call.args[2:end]
    arguments = [Symbol("a", index) for index in eachindex(types)]
    pointer = :(Libdl.dlsym(handle[], $(QuoteNode(name))))
    body = Expr(:call, :ccall, pointer, result, Expr(:tuple, types...), arguments...)
    return esc(quote
        $name($(arguments...)) = $body
        SIGNATURES[$(QuoteNode(name))] = ($result, Any[$(types...)])
    end)
end

const Object = Ptr{Cvoid} # biv_dataset *, biv_model *, biv_trainer *, biv_text *
const Status = Int32

struct biv_array
    data::Ptr{Cvoid}
    dtype::Int32
    rank::Int32
    shape::Ptr{Int64}
    strides::Ptr{Int64}
    size::Int64
end
const biv_array_out = biv_array

struct biv_dataset_info
    struct_size::Csize_t
    rows::Int64
    features::Int64
    outputs::Int64
    has_variances::Int32
    has_clean_labels::Int32
    left_out::Int64
    masked_labels::Int64
end

struct biv_loss_result
    struct_size::Csize_t
    value::Float64
    effective_batch_size::Float64
    epsilon::Float64
    samples_used::Int64
end

struct biv_model_info
    struct_size::Csize_t
    inputs::Int64
    outputs::Int64
    parameters::Int64
    normalized::Int32
end

struct biv_step
    struct_size::Csize_t
    loss::Float64
    effective_batch_size::Float64
    epsilon::Float64
    rows::Int64
    samples_used::Int64
    learning_rate::Float64
end

struct biv_metrics
    struct_size::Csize_t
    rows::Int64
    mse::Float64
    rmse::Float64
    mae::Float64
    r2::Float64
    normalized_mse::Float64
    normalized_rmse::Float64
    normalized_mae::Float64
    weighted_rmse::Float64
    expected_rmse::Float64
    mean_z2::Float64
    nlpd::Float64
    coverage_68::Float64
    coverage_95::Float64
end

struct biv_epoch
    struct_size::Csize_t
    epoch::Int64
    batches::Int64
    skipped::Int64
    loss::Float64
    effective_batch_size::Float64
    test::Ptr{biv_metrics}
    validation_loss::Float64
    best_epoch::Int64
    learning_rate::Float64
end

struct biv_progress
    struct_size::Csize_t
    epoch::Int64
    batch::Int64
    steps::Int64
    loss::Float64
    running::Int32
end

struct biv_variance_model
    struct_size::Csize_t
    epsilon::Float64
    scale::Float64
    tau2::Float64
    tau2_pm::Float64
    epsilon_best::Float64
    epsilon_floor::Float64
    gain::Float64
    gain_se::Float64
    mean_z2::Float64
    rows::Int64
    verdict::Int32
    warning::Cstring
end

struct biv_fit_progress
    struct_size::Csize_t
    epoch::Int64
    epochs::Int64
    steps::Int64
    total_steps::Int64
    held_out_loss::Float64
    epsilon::Float64
    is_final::Int32
end

struct biv_experiment_progress
    struct_size::Csize_t
    stage::Int32
    run::Cstring
    done::Int64
    total::Int64
    epoch::Int64
    epochs::Int64
    loss::Float64
    rmse::Float64
    samples_per_second::Float64
    seconds_left::Float64
end

@c biv_status_name(Status)::Cstring
@c biv_version()::Cstring
@c biv_abi_version()::Int32
@c biv_build_info(Ptr{Cstring})::Status
@c biv_last_error_message()::Cstring
@c biv_last_error_message_from_one()::Cstring
@c biv_set_log(Int32, Ptr{Cvoid}, Ptr{Cvoid})::Status
@c biv_config_schema(Cstring, Ptr{Cstring})::Status
@c biv_cuda_device_count(Ptr{Int32})::Status
@c biv_get_num_threads(Ptr{Int32})::Status
@c biv_set_num_threads(Int32)::Status
@c biv_dataset_create(Ptr{biv_array}, Ptr{biv_array}, Ptr{biv_array}, Ptr{biv_array}, Cstring, Ptr{Object})::Status
@c biv_dataset_create_from_arrays(Ptr{biv_array}, Ptr{biv_array}, Ptr{biv_array}, Ptr{Object})::Status
@c biv_dataset_create_from_arrays_with_std(Ptr{biv_array}, Ptr{biv_array}, Ptr{biv_array}, Ptr{Object})::Status
@c biv_dataset_create_borrowed(Ptr{biv_array}, Ptr{biv_array}, Ptr{biv_array}, Ptr{biv_array}, Ptr{Cvoid}, Ptr{Cvoid}, Cstring, Ptr{Object})::Status
@c biv_dataset_create_from_dlpack(Ptr{Cvoid}, Ptr{Cvoid}, Ptr{Cvoid}, Ptr{Cvoid}, Ptr{Cvoid}, Cstring, Ptr{Object})::Status
@c biv_dataset_create_from_csv(Cstring, Cstring, Ptr{Object})::Status
@c biv_dataset_create_named(Cstring, Cstring, Ptr{Object})::Status
@c biv_dataset_create_from_images(Cstring, Cstring, Ptr{Object})::Status
@c biv_dataset_create_synthetic(Cstring, Ptr{Object})::Status
@c biv_dataset_add_noise(Object, Cstring, Ptr{Object})::Status
@c biv_dataset_split(Object, Cstring, Ptr{Object}, Ptr{Object})::Status
@c biv_dataset_subset(Object, Ptr{Int64}, Csize_t, Ptr{Object})::Status
@c biv_dataset_shuffle(Object, UInt64, Ptr{Object})::Status
@c biv_dataset_append(Object, Object, Ptr{Object})::Status
@c biv_dataset_latest(Object, Csize_t, Ptr{Object})::Status
@c biv_dataset_with_variances(Object, Ptr{biv_array}, Cstring, Ptr{Object})::Status
@c biv_dataset_get_info(Object, Ptr{biv_dataset_info})::Status
@c biv_dataset_describe(Object, Ptr{UInt8}, Csize_t, Ptr{Csize_t})::Status
@c biv_dataset_copy_features(Object, Ptr{biv_array_out})::Status
@c biv_dataset_copy_labels(Object, Ptr{biv_array_out})::Status
@c biv_dataset_copy_clean_labels(Object, Ptr{biv_array_out})::Status
@c biv_dataset_copy_variances(Object, Ptr{biv_array_out})::Status
@c biv_dataset_free(Object)::Cvoid
@c biv_noise_sample(Cstring, UInt64, Ptr{Float64}, Csize_t)::Status
@c biv_loss_compute(Cstring, Ptr{biv_array}, Ptr{biv_array}, Ptr{biv_array}, Ptr{biv_loss_result}, Ptr{biv_array_out})::Status
@c biv_model_create(Cstring, Ptr{Object})::Status
@c biv_model_load(Cstring, Ptr{Object})::Status
@c biv_model_load_from_memory(Ptr{UInt8}, Csize_t, Ptr{Object})::Status
@c biv_model_save_to_memory(Object, Ptr{UInt8}, Csize_t, Ptr{Csize_t})::Status
@c biv_model_copy(Object, Ptr{Object})::Status
@c biv_model_export(Object, Cstring, Cstring)::Status
@c biv_model_import_weights(Object, Cstring, Cstring, Ptr{Object})::Status
@c biv_trainer_load_from_memory(Ptr{UInt8}, Csize_t, Object, Cstring, Ptr{Object})::Status
@c biv_trainer_save_to_memory(Object, Ptr{UInt8}, Csize_t, Ptr{Csize_t})::Status
@c biv_model_save(Object, Cstring)::Status
@c biv_model_get_info(Object, Ptr{biv_model_info})::Status
@c biv_model_describe(Object, Ptr{UInt8}, Csize_t, Ptr{Csize_t})::Status
@c biv_model_get_tensor(Object, Cstring, Ptr{biv_array_out})::Status
@c biv_model_set_tensor(Object, Cstring, Ptr{biv_array})::Status
@c biv_model_predict(Object, Ptr{biv_array}, Ptr{biv_array_out})::Status
@c biv_model_predict_with_variance(Object, Ptr{biv_array}, Ptr{biv_array_out}, Ptr{biv_array_out})::Status
@c biv_model_predict_dlpack(Object, Ptr{Cvoid}, Ptr{Cvoid})::Status
@c biv_model_evaluate(Object, Object, Ptr{biv_metrics})::Status
@c biv_model_set_normalization(Object, Ptr{biv_array}, Ptr{biv_array}, Ptr{biv_array}, Ptr{biv_array})::Status
@c biv_model_reset_normalization(Object)::Status
@c biv_model_free(Object)::Cvoid
@c biv_trainer_create(Object, Object, Cstring, Ptr{Object})::Status
@c biv_trainer_step(Object, Ptr{biv_step})::Status
@c biv_trainer_step_on(Object, Ptr{biv_array}, Ptr{biv_array}, Ptr{biv_array}, Ptr{biv_step})::Status
@c biv_trainer_set_data(Object, Object)::Status
@c biv_trainer_set_validation(Object, Object)::Status
@c biv_trainer_fit(Object, Int64, Object, Ptr{Cvoid}, Ptr{Cvoid})::Status
@c biv_trainer_cancel(Object)::Status
@c biv_trainer_get_progress(Object, Ptr{biv_progress})::Status
@c biv_trainer_describe(Object, Ptr{UInt8}, Csize_t, Ptr{Csize_t})::Status
@c biv_trainer_evaluate(Object, Object, Ptr{biv_metrics})::Status
@c biv_trainer_predict(Object, Ptr{biv_array}, Ptr{biv_array_out})::Status
@c biv_trainer_get_learning_rate(Object, Ptr{Float64})::Status
@c biv_trainer_set_learning_rate(Object, Float64)::Status
@c biv_trainer_get_model(Object, Ptr{Object})::Status
@c biv_trainer_save(Object, Cstring)::Status
@c biv_trainer_load(Cstring, Object, Cstring, Ptr{Object})::Status
@c biv_trainer_load_with(Cstring, Object, Cstring, Ptr{Object})::Status
@c biv_trainer_free(Object)::Cvoid
@c biv_variance_model_fit(Ptr{biv_array}, Ptr{biv_array}, Ptr{biv_variance_model})::Status
@c biv_fit(Cstring, Object, Cstring, Ptr{Cvoid}, Ptr{Cvoid}, Ptr{Object}, Ptr{Object})::Status
@c biv_experiment_resolve(Cstring, Ptr{Object})::Status
@c biv_experiment_run(Cstring, Ptr{Cvoid}, Ptr{Cvoid}, Ptr{Object})::Status
@c biv_sweep_run(Cstring, Ptr{Cvoid}, Ptr{Cvoid}, Ptr{Object})::Status
@c biv_text_get(Object, Ptr{Cstring})::Status
@c biv_text_free(Object)::Cvoid

end
