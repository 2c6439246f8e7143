"""
Batch inverse-variance training: regression on labels whose noise variances are known.

    using BIV
    data = Dataset(x, y; variances = v)            # observations are the rows of x
    model = Model(kind = "mlp", inputs = size(x, 2), hidden = [64, 32])
    trainer = Trainer(model, data; loss = (kind = "biv", epsilon = 0.1))
    fit!(trainer, 100)
    predict(model, x)

Options are keyword arguments, named tuples or JSON texts, as biv.h documents them.
A failure of the library is a [`BIVError`](@ref). Objects free themselves; `close` does it at once.
"""
module BIV

include("LibBIV.jl")
include("json.jl")

using .LibBIV: Object

export BIVError, Dataset, Model, Trainer
export read_csv, read_named, read_images, synthetic, add_noise, split_rows, subset, shuffled
export features, labels, clean_labels, variances, info
export fit!, step!, evaluate, predict, cancel!, progress, learning_rate, learning_rate!, model
export save, load_model, load_trainer, describe, tensor, tensor!
export loss, sample_noise, run_experiment, run_sweep, resolve
export version, build_info, set_log, schema, threads, threads!, cuda_devices

"A failure of the library: its status, such as `:SHAPE`, and its message: what was wrong, where, what would be right."
struct BIVError <: Exception
    status::Symbol
    message::String
end

Base.showerror(io::IO, error::BIVError) = print(io, "BIVError(:", error.status, "): ", error.message)

function check(status::Integer)
    status == 0 && return
    name = replace(unsafe_string(LibBIV.biv_status_name(status)), "BIV_ERROR_" => "")
    throw(BIVError(Symbol(name), unsafe_string(LibBIV.biv_last_error_message())))
end

# Objects: each owns a handle of the library's, and frees it when it is collected.

for (type, free, doc) in (
    (:Dataset, :biv_dataset_free, "Features, labels and, where they are known, the variances of the labels' noise. It never changes."),
    (:Model, :biv_model_free, "A network with the normalisation of the data it was trained on."),
    (:Trainer, :biv_trainer_free, "Trains one model with Adam. It keeps what it needs of model and data."),
    (:Text, :biv_text_free, "A text of the library's."),
)
    @eval begin
        @doc $doc mutable struct $type
            handle::Object
            function $type(handle::Object)
                return finalizer(close, new(handle))
            end
        end

        "Frees the object at once. Using it afterwards is a `BIVError`; closing it again does nothing."
        function Base.close(object::$type)
            handle, object.handle = object.handle, C_NULL
            handle == C_NULL || LibBIV.$free(handle)
            return
        end

        Base.isopen(object::$type) = object.handle != C_NULL
    end
end

"A new object: `make` is given the place of its handle."
function create(::Type{T}, make) where {T}
    place = Ref{Object}(C_NULL)
    check(make(place))
    return T(place[])
end

"Calls `call` with the handles of `objects`, none of which is collected meanwhile."
using_handles(call, objects...) = GC.@preserve objects check(call((object === nothing ? C_NULL : object.handle for object in objects)...))

"A struct of the library's, filled by `fill`, as a named tuple."
function filled(::Type{T}, fill) where {T}
    bytes = zeros(UInt8, sizeof(T))
    place = Ref{T}()
    GC.@preserve place bytes begin
        pointer = Base.unsafe_convert(Ptr{T}, place)
        unsafe_copyto!(Ptr{UInt8}(pointer), Base.pointer(bytes), sizeof(T))
        unsafe_store!(Ptr{Csize_t}(pointer), sizeof(T))
        fill(place)
    end
    return named(place[])
end

named(value::T) where {T} = NamedTuple{fieldnames(T)[2:end]}(Tuple(getfield(value, name) for name in fieldnames(T)[2:end]))

options(text::AbstractString, fields) = isempty(fields) ? String(text) : throw(ArgumentError("give a JSON text or keyword arguments, not both"))
options(::Nothing, fields) = json(fields)

# Arrays: column-major memory is described by its strides, not copied.

const Numbers = Union{Float32,Float64}

memory(array::StridedArray{<:Numbers}) = array
memory(array::AbstractArray{<:Real}) = Array{Float64}(array)
memory(array::AbstractArray) = throw(ArgumentError("an array of real numbers is needed, not of $(eltype(array))"))

"""
Calls `call` with the description of `array`, whose dimension `obsdim` counts the observations:
it comes first, then the others in their order.
"""
function described(call, array::AbstractArray, obsdim::Integer)
    array = memory(array)
    1 <= obsdim <= ndims(array) || throw(ArgumentError("obsdim is $obsdim, the array has $(ndims(array)) dimensions"))
    order = [obsdim; setdiff(1:ndims(array), obsdim)]
    shape, steps = Int64[size(array, axis) for axis in order], Int64[stride(array, axis) for axis in order]
    dtype = eltype(array) == Float32 ? 1 : 2
    GC.@preserve array shape steps begin
        data = isempty(array) ? C_NULL : Ptr{Cvoid}(pointer(array))
        return call(Ref(LibBIV.biv_array(data, dtype, length(order), pointer(shape), pointer(steps), 0)))
    end
end
described(call, ::Nothing, ::Integer) = call(Ptr{LibBIV.biv_array}(C_NULL))

"An array of `shape`, observations first, that `copy` fills."
function copied(copy, shape)
    array = Array{Float64}(undef, shape...)
    described(place -> check(copy(place)), array, 1)
    return array
end

column(array) = size(array, 2) == 1 ? vec(array) : array

# Data sets.

"""
    Dataset(x, y; variances = nothing, std = nothing, obsdim = 1)

Copies arrays of `Float32` or `Float64`: features `x` (`n × d`, or a vector, or images `n × channels × height × width`),
labels `y` (`n`, or `n × outputs`), and the variances or standard deviations of the labels' noise, shaped as `y`.
As in tables, observations are rows; with `obsdim = 2` they are the columns of matrices, as in Flux.
"""
function Dataset(x::AbstractArray, y::AbstractArray; variances=nothing, std=nothing, obsdim::Integer=1)
    variances === nothing || std === nothing || throw(ArgumentError("give variances or std, not both"))
    make = std === nothing ? LibBIV.biv_dataset_create_from_arrays : LibBIV.biv_dataset_create_from_arrays_with_std
    noise = std === nothing ? variances : std
    axis(array) = array === nothing || ndims(array) == 1 ? 1 : obsdim
    return described(x, axis(x)) do features
        described(y, axis(y)) do labels
            described(noise, axis(noise)) do noise
                create(Dataset, place -> make(features, labels, noise, place))
            end
        end
    end
end

"Reads a CSV file: `read_csv(path; labels = [\"income\"], standard_errors = [\"moe\"], error_divisor = 1.645)`."
read_csv(path, json=nothing; fields...) =
    create(Dataset, place -> LibBIV.biv_dataset_create_from_csv(path, options(json, fields), place))

"Reads `:bike` (hour.csv) or `:wine` from its file or folder."
read_named(name, path) = create(Dataset, place -> LibBIV.biv_dataset_create_named(String(name), path, place))

"Reads a folder of images whose names begin with their labels: `read_images(folder; size = (height = 64, width = 64))`."
read_images(folder, json=nothing; fields...) =
    create(Dataset, place -> LibBIV.biv_dataset_create_from_images(folder, options(json, fields), place))

"Friedman's function: `synthetic(rows = 2000, features = 10, seed = 0)`."
synthetic(json=nothing; fields...) =
    create(Dataset, place -> LibBIV.biv_dataset_create_synthetic(options(json, fields), place))

"A copy with simulated label noise: `add_noise(data; distribution = (kind = \"gamma\", mean = 20, variance = 400), seed = 1)`."
add_noise(data::Dataset, json=nothing; fields...) = GC.@preserve data create(
    Dataset, place -> LibBIV.biv_dataset_add_noise(data.handle, options(json, fields), place))

"Two parts: `train, test = split_rows(data; train_size = 500, test_size = 100, seed = 1)`."
function split_rows(data::Dataset, json=nothing; fields...)
    test = Ref{Object}(C_NULL)
    train = GC.@preserve data create(
        Dataset, place -> LibBIV.biv_dataset_split(data.handle, options(json, fields), place, test))
    return train, Dataset(test[])
end

"The rows `rows`, counted from 1, in that order."
function subset(data::Dataset, rows)
    for row in rows
        1 <= row <= length(data) || throw(BoundsError(1:length(data), row))
    end
    indices = Int64[row - 1 for row in rows]
    return GC.@preserve data indices create(
        Dataset, place -> LibBIV.biv_dataset_subset(data.handle, pointer(indices), length(indices), place))
end

"All rows in a random order, which the seed determines."
shuffled(data::Dataset; seed=0) =
    GC.@preserve data create(Dataset, place -> LibBIV.biv_dataset_shuffle(data.handle, seed, place))

"The sizes of a data set or model, as a named tuple."
info(data::Dataset) =
    filled(LibBIV.biv_dataset_info, place -> using_handles(handle -> LibBIV.biv_dataset_get_info(handle, place), data))

Base.length(data::Dataset) = Int(info(data).rows)

"The features, `n × d`: those of images flattened row-major."
function features(data::Dataset)
    sizes = info(data)
    if sizes.rows == 0
        return zeros(0, 0)
    end
    return GC.@preserve data copied(place -> LibBIV.biv_dataset_copy_features(data.handle, place), (sizes.rows, sizes.features))
end

for (name, copy, doc) in (
    (:labels, :biv_dataset_copy_labels, "The labels, `n`, or `n × outputs`."),
    (:clean_labels, :biv_dataset_copy_clean_labels, "The labels as they were before simulated noise."),
    (:variances, :biv_dataset_copy_variances, "The variances of the labels' noise, shaped as the labels."),
)
    @eval @doc $doc function $name(data::Dataset)
        sizes = info(data)
        return column(GC.@preserve data copied(place -> LibBIV.$copy(data.handle, place), (sizes.rows, sizes.outputs)))
    end
end

# Models.

"A network with initial weights: `Model(kind = \"mlp\", inputs = 10, hidden = [32, 16], seed = 0)`, or a JSON text."
Model(json::Union{Nothing,AbstractString}=nothing; fields...) =
    create(Model, place -> LibBIV.biv_model_create(options(json, fields), place))

"The model that [`save`](@ref) saved."
load_model(path) = create(Model, place -> LibBIV.biv_model_load(path, place))

info(model::Model) =
    filled(LibBIV.biv_model_info, place -> using_handles(handle -> LibBIV.biv_model_get_info(handle, place), model))

"What a model is, with its tensors' names and shapes."
function describe(model::Model)
    needed = Ref{Csize_t}(0)
    using_handles(handle -> LibBIV.biv_model_describe(handle, C_NULL, 0, needed), model)
    buffer = Vector{UInt8}(undef, needed[])
    GC.@preserve buffer using_handles(
        handle -> LibBIV.biv_model_describe(handle, pointer(buffer), length(buffer), needed), model)
    return parse_json(String(buffer[1:end-1]))
end

"A copy of the tensor `name`, its dimensions as in PyTorch."
function tensor(model::Model, name)
    tensors = describe(model)["tensors"]
    at = findfirst(tensor -> tensor["name"] == name, tensors)
    shape = at === nothing ? [1] : tensors[at]["shape"]
    return GC.@preserve model copied(place -> LibBIV.biv_model_get_tensor(model.handle, name, place), shape)
end

"Overwrites the tensor `name`."
function tensor!(model::Model, name, values::AbstractArray)
    described(values, 1) do array
        using_handles(handle -> LibBIV.biv_model_set_tensor(handle, name, array), model)
    end
    return model
end

"""
    predict(model, x; obsdim = 1)

Predicts labels in their units, `n` or `n × outputs`, from features in theirs. A trainer predicts with its model.
"""
predict(model::Model, x::AbstractArray; obsdim::Integer=1) = predictions(LibBIV.biv_model_predict, model, info(model), x, obsdim)
predict(trainer::Trainer, x::AbstractArray; obsdim::Integer=1) =
    predictions(LibBIV.biv_trainer_predict, trainer, info(model(trainer)), x, obsdim)

function predictions(predict, object, sizes, x, obsdim)
    obsdim = ndims(x) == 1 ? 1 : obsdim
    return described(x, obsdim) do array
        column(GC.@preserve object copied(place -> predict(object.handle, array, place), (size(x, obsdim), sizes.outputs)))
    end
end

"Saves a model (enough to predict) or a trainer (enough to continue). A file that is there is replaced at once."
save(model::Model, path) = using_handles(handle -> LibBIV.biv_model_save(handle, path), model)

# Training.

"""
    Trainer(model, data = nothing; loss = (kind = "biv", epsilon = 0.1), batch_size = 256, learning_rate = 0.001, ...)

A trainer that starts from the model's weights as they are. Without data, [`step!`](@ref) takes mini-batches of yours.
"""
Trainer(model::Model, data::Union{Dataset,Nothing}=nothing, json::Union{Nothing,AbstractString}=nothing; fields...) =
    GC.@preserve model data create(
        Trainer,
        place -> LibBIV.biv_trainer_create(model.handle, data === nothing ? C_NULL : data.handle, options(json, fields), place))

"The trainer that [`save`](@ref) saved, with a model of its own. `data` must be what it was trained on."
load_trainer(path, data::Union{Dataset,Nothing}=nothing; device=nothing) = GC.@preserve data create(
    Trainer,
    place -> LibBIV.biv_trainer_load(path, data === nothing ? C_NULL : data.handle, device === nothing ? C_NULL : device, place))

save(trainer::Trainer, path) = using_handles(handle -> LibBIV.biv_trainer_save(handle, path), trainer)

"One step on the next mini-batch: its loss, effective batch size, epsilon, rows and samples used."
step!(trainer::Trainer) =
    filled(LibBIV.biv_step, place -> using_handles(handle -> LibBIV.biv_trainer_step(handle, place), trainer))

"One step on a mini-batch of yours, arrays as in [`Dataset`](@ref)."
function step!(trainer::Trainer, x::AbstractArray, y::AbstractArray; variances=nothing, obsdim::Integer=1)
    axis(array) = array === nothing || ndims(array) == 1 ? 1 : obsdim
    return described(x, axis(x)) do features
        described(y, axis(y)) do labels
            described(variances, axis(variances)) do noise
                filled(
                    LibBIV.biv_step,
                    place -> using_handles(handle -> LibBIV.biv_trainer_step_on(handle, features, labels, noise, place), trainer))
            end
        end
    end
end

"A function that is called back, and what it threw."
mutable struct Callback
    call::Any
    error::Any
    stopped::Bool
end

"Runs the callback. What it throws stops the library and is kept, to be thrown again."
function called(user::Ptr{Cvoid}, argument)
    callback = unsafe_pointer_to_objref(user)::Callback
    try
        callback.stopped = callback.call(argument) === false
    catch error
        callback.error = (error, catch_backtrace())
        callback.stopped = true
    end
    return Int32(callback.stopped)
end

function on_epoch(user::Ptr{Cvoid}, place::Ptr{LibBIV.biv_epoch})
    epoch = unsafe_load(place)
    test = epoch.test == C_NULL ? nothing : named(unsafe_load(epoch.test))
    return called(user, merge(named(epoch), (test=test,)))
end

function on_progress(user::Ptr{Cvoid}, place::Ptr{LibBIV.biv_experiment_progress})
    progress = unsafe_load(place)
    stage = (:loading, :training, :sweep)[progress.stage]
    return called(user, merge(named(progress), (stage=stage, run=unsafe_string(progress.run))))
end

"Calls the library with a callback. Gives whether it came to its end; what the callback threw is thrown again."
function with_callback(call, callback, c_function)
    state = Callback(callback, nothing, false)
    status = GC.@preserve state call(callback === nothing ? C_NULL : c_function, pointer_from_objref(state))
    if state.error !== nothing
        error, trace = state.error
        error isa InterruptException && rethrow(error)
        throw(error)
    end
    state.stopped && status == 10 && return false
    check(status)
    return true
end

"""
    fit!(trainer, epochs; test = nothing) do epoch ... end

Trains for `epochs` epochs and evaluates on `test` after each. The function, which may be left out, is called after
every epoch with a named tuple (`epoch`, `loss`, `effective_batch_size`, `test.rmse`, ...); it may use the trainer, and
stops the training when it returns `false` or throws. Gives whether all epochs were trained.
"""
fit!(callback, trainer::Trainer, epochs::Integer; test::Union{Dataset,Nothing}=nothing) =
    with_callback(callback, @cfunction(on_epoch, Int32, (Ptr{Cvoid}, Ptr{LibBIV.biv_epoch}))) do c_function, user
        GC.@preserve trainer test LibBIV.biv_trainer_fit(
            trainer.handle, epochs, test === nothing ? C_NULL : test.handle, c_function, user)
    end
fit!(trainer::Trainer, epochs::Integer; test::Union{Dataset,Nothing}=nothing) = fit!(nothing, trainer, epochs; test=test)

"The model's errors on a data set, in evaluation mode: rmse, mae, r2, normalized_mse, ..."
evaluate(trainer::Trainer, data::Dataset) = filled(
    LibBIV.biv_metrics,
    place -> using_handles((handle, data) -> LibBIV.biv_trainer_evaluate(handle, data, place), trainer, data))

"Makes a `fit!` that is running on another thread stop after its present step."
cancel!(trainer::Trainer) = using_handles(LibBIV.biv_trainer_cancel, trainer)

"How far training has come."
progress(trainer::Trainer) =
    filled(LibBIV.biv_progress, place -> using_handles(handle -> LibBIV.biv_trainer_get_progress(handle, place), trainer))

"Adam's learning rate."
function learning_rate(trainer::Trainer)
    place = Ref(0.0)
    using_handles(handle -> LibBIV.biv_trainer_get_learning_rate(handle, place), trainer)
    return place[]
end

"Sets the learning rate from the next step on."
learning_rate!(trainer::Trainer, rate) =
    using_handles(handle -> LibBIV.biv_trainer_set_learning_rate(handle, rate), trainer)

"The model in training."
model(trainer::Trainer) =
    GC.@preserve trainer create(Model, place -> LibBIV.biv_trainer_get_model(trainer.handle, place))

# Losses and noise by themselves.

"""
    loss((kind = "biv", epsilon = 0.1), predictions, labels; variances = nothing)

The loss of a mini-batch and its gradient by the predictions, for a training loop of your own.
"""
function loss(kind, predictions::AbstractArray, labels::AbstractArray; variances=nothing)
    gradient = Array{Float64}(undef, size(predictions)...)
    text = kind isa AbstractString ? kind : json(kind)
    result = described(predictions, 1) do p
        described(labels, 1) do y
            described(variances, 1) do v
                described(gradient, 1) do g
                    filled(LibBIV.biv_loss_result, place -> check(LibBIV.biv_loss_compute(text, p, y, v, place, g)))
                end
            end
        end
    end
    return merge(result, (gradient=gradient,))
end

"`count` noise variances of a distribution: `sample_noise((kind = \"gamma\", alpha = 2, beta = 0.5), 100; seed = 1)`."
function sample_noise(distribution, count::Integer; seed=0)
    values = Vector{Float64}(undef, count)
    text = distribution isa AbstractString ? distribution : json(distribution)
    GC.@preserve values check(LibBIV.biv_noise_sample(text, seed, pointer(values), count))
    return values
end

# Whole experiments.

read_text(text::Text) = GC.@preserve text begin
    place = Ref{Cstring}(C_NULL)
    check(LibBIV.biv_text_get(text.handle, place))
    parse_json(unsafe_string(place[]))
end

description(config::AbstractString) = config
description(config) = json(config)

"An experiment's description with every default filled in."
resolve(config) = read_text(create(Text, place -> LibBIV.biv_experiment_resolve(description(config), place)))

for (name, c_name, doc) in (
    (:run_experiment, :biv_experiment_run, "Runs an experiment: `run_experiment((dataset = (kind = \"bike\", train_size = 7000), data = folder))`."),
    (:run_sweep, :biv_sweep_run, "Runs a grid of experiments: `run_sweep((base = ..., grid = (seeds = 1:5, losses = [...])))`."),
)
    @eval begin
        @doc $doc function $name(callback, config)
            place = Ref{Object}(C_NULL)
            text = description(config)
            c_function = @cfunction(on_progress, Int32, (Ptr{Cvoid}, Ptr{LibBIV.biv_experiment_progress}))
            complete = with_callback(callback, c_function) do c_function, user
                LibBIV.$c_name(text, c_function, user, place)
            end
            return complete ? read_text(Text(place[])) : nothing
        end
        $name(config) = $name(nothing, config)
    end
end

# The library.

"The library's version."
version() = VersionNumber(unsafe_string(LibBIV.biv_version()))

"What the library is built from and runs on, such as whose BLAS libtorch calls."
function build_info()
    place = Ref{Cstring}(C_NULL)
    check(LibBIV.biv_build_info(place))
    return parse_json(unsafe_string(place[]))
end

"The function that hears the log, or `nothing`."
const LISTENER = Ref{Any}(nothing)

function on_log(::Ptr{Cvoid}, level::Int32, message::Cstring)
    try
        LISTENER[] === nothing || LISTENER[](level == 1 ? :warning : :info, unsafe_string(message))
    catch
        # An error has nobody here to go to.
    end
    return nothing
end

"""
    set_log(f, level = :warning)
    set_log(nothing)

Calls `f(level, message)` with what the library says beside errors, each message once; `nothing` hears nothing. Up to
`:warning` that is what makes work slow and what was not expected, with `:info` also what is in use. An error that `f`
throws is dropped. The library calls `f` only within a call of Julia's, never on a thread of its own. Set it while no
other task is in the library.
"""
function set_log(f, level::Symbol=:warning)
    levels = (silent=0, warning=1, info=2)
    haskey(levels, level) || throw(ArgumentError("level is :$level, must be :silent, :warning or :info"))
    LISTENER[] = f
    callback = f === nothing ? C_NULL : @cfunction(on_log, Cvoid, (Ptr{Cvoid}, Int32, Cstring))
    check(LibBIV.biv_set_log(levels[level], callback, C_NULL))
end

"The JSON Schema of the options called `name`."
function schema(name)
    place = Ref{Cstring}(C_NULL)
    check(LibBIV.biv_config_schema(String(name), place))
    return parse_json(unsafe_string(place[]))
end

for (name, c_name, doc) in (
    (:threads, :biv_get_num_threads, "How many threads libtorch uses inside one operation."),
    (:cuda_devices, :biv_cuda_device_count, "The number of CUDA devices that can be used."),
)
    @eval @doc $doc function $name()
        place = Ref{Int32}(0)
        check(LibBIV.$c_name(place))
        return Int(place[])
    end
end

"Sets the number of threads inside one operation, in the whole process."
threads!(count::Integer) = check(LibBIV.biv_set_num_threads(count))

end
