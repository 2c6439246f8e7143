# Included by runtests.jl.
using BIV: LibBIV
using BIV: add_noise, borrow, build_info, cancel!, clean_labels, cuda_devices, describe, error_bars, export_model, features,
    from_dlpack, import_weights!, info, labels, latest, learning_rate, learning_rate!, load_model, load_trainer, loss, model,
    normalization, predict_dlpack!, progress, read_csv, reset_normalization!, resolve, run_experiment, run_sweep, sample_noise,
    save, schema, set_data!, set_log, set_normalization!, set_validation!, shuffled, split_rows, subset, synthetic, tensor,
    tensor!, threads, threads!, variance_model, variances, version, with_variances
using Random: MersenneTwister

# The C declarations against the header.

const HEADER = read(joinpath(@__DIR__, "..", "..", "..", "include", "biv.h"), String)
const PLAIN = replace(HEADER, r"/\*.*?\*/"s => "")

"What a C type is to `ccall`: a number's size, or an address."
function c_kind(text)
    text = strip(replace(replace(text, r"\b(const|struct)\b" => ""), r"\s+" => " "))
    (occursin('*', text) || endswith(text, "callback user") || occursin("_callback", text)) && return :address
    name = split(text)[1]
    return Dict("biv_status" => Int32, "int32_t" => Int32, "int64_t" => Int64, "uint64_t" => UInt64, "size_t" => Csize_t,
                "double" => Float64, "void" => Cvoid)[name]
end
julia_kind(type) = type <: Ptr || type == Cstring ? :address : type

@testset "declarations" begin
    found = Symbol[]
    for declaration in eachmatch(r"^([a-z][\w ]*?[ *]+)(biv_\w+)\(([^;{]*?)\);"m, PLAIN)
        result, name, parameters = declaration.captures
        name = Symbol(name)
        push!(found, name)
        @test haskey(LibBIV.SIGNATURES, name)
        expected = strip(parameters) == "void" ? [] : [c_kind(parameter) for parameter in split(parameters, ',')]
        declared_result, declared = LibBIV.SIGNATURES[name]
        @test [julia_kind(type) for type in declared] == expected
        @test julia_kind(declared_result) == c_kind(result * " ")
    end
    @test length(found) > 50
    @test Set(found) == Set(keys(LibBIV.SIGNATURES))

    for declaration in eachmatch(r"typedef struct (biv_\w+) \{(.*?)\} \1;"s, PLAIN)
        name, body = Symbol(declaration.captures[1]), declaration.captures[2]
        isdefined(LibBIV, name) || error("no struct $name")
        type = getfield(LibBIV, name)
        fields = [strip(field) for field in split(body, ';') if !isempty(strip(field))]
        @test [Symbol(match(r"(\w+)$", field).match) for field in fields] == collect(fieldnames(type))
        @test [c_kind(field) for field in fields] == [julia_kind(field) for field in fieldtypes(type)]
    end
end

"The error that `call` throws, whose message must say `text`."
function failure(call, text)
    try
        call()
    catch error
        @test occursin(text, sprint(showerror, error))
        return error
    end
    @test "no error" == text
end
refused(call, status, text) = @test failure(call, text).status == status

@testset "options and results as JSON" begin
    options = (kind="mlp", hidden=[32, 16], rate=0.5, deep=(a=nothing, b=true), text="a\"b\\\n", of=:symbol)
    text = "{\"kind\":\"mlp\",\"hidden\":[32,16],\"rate\":0.5,\"deep\":{\"a\":null,\"b\":true}," *
           "\"text\":\"a\\\"b\\\\\\u000a\",\"of\":\"symbol\"}"
    @test BIV.json(options) == text
    @test BIV.parse_json(text)["text"] == "a\"b\\\n"
    @test BIV.parse_json(" { \"a\" : [ 1 , -2.5e3, [] , {} ] , \"ü\" : \"\\u00e9\\n\" } ") ==
          Dict("a" => Any[1, -2500.0, [], Dict()], "ü" => "é\n")
    failure(() -> BIV.json((epsilon=NaN,)), "no place for NaN")
    @test BIV.parse_json("[18446744073709551615, -9, 0.5]") == Any[typemax(UInt64), -9, 0.5]
end

@testset "few names" begin
    @test setdiff(names(BIV), BIV.PUBLIC) == [:BIV, :BIVError, :Dataset, :Model, :Trainer, :evaluate, :fit, :fit!, :predict,
        :predict_with_variance, :step!]
    @test all(name -> isdefined(BIV, name), BIV.PUBLIC)
    # A program may call its data as it likes.
    program = Module()
    Base.include_string(program, """
        using BIV
        data = Dataset(reshape(1:6, 3, 2), 1:3)
        labels, features, info = BIV.labels(data), BIV.features(data), BIV.info(data)
        model = Model(kind="mlp", inputs=2, hidden=[2])
        loss = step!(Trainer(model, data; batch_size=3, loss=(kind="mse",))).loss
        """)
    @test program.labels == 1:3 && program.loss > 0
end

const x = [Float64(i + 10j) for i in 1:6, j in 1:3]
const y = Float64.(1:6)

@testset "arrays keep their order" begin
    data = Dataset(x, y; variances=2y)
    @test (length(data), info(data).features, info(data).has_variances) == (6, 3, 1)
    @test features(data) == x && labels(data) == y && variances(data) == 2y
    @test features(Dataset(permutedims(x), y; obsdim=2)) == x
    @test features(Dataset(Float32.(x), y)) == x
    @test features(Dataset(view(x, 6:-1:1, 1:2:3), y)) == x[6:-1:1, [1, 3]]
    @test features(Dataset(x', 1:3)) == x'
    @test variances(Dataset(x, y; std=y)) == y .^ 2
    @test labels(Dataset(x, [y 2y])) == [y 2y]
    images = reshape(Float32.(1:24), 2, 3, 2, 2)
    @test features(Dataset(images, [1, 2]))[1, 2] == images[1, 1, 1, 2]
    @test features(subset(data, [6, 1])) == x[[6, 1], :]
    @test sort(labels(shuffled(data; seed=3))) == y
    one, other = split_rows(data; train_size=4)
    @test sort([labels(one); labels(other)]) == y
    noisy = add_noise(data; distribution=(kind="uniform", low=1, high=1))
    @test variances(noisy) ≈ 2y .+ 1 && clean_labels(noisy) == y && labels(noisy) != y
end

@testset "arrays are lent" begin
    x32, y64, v64 = Float32.(permutedims(x)), copy(y), 2y
    before = BIV.forget_lent()
    data = borrow(x32, y64; variances=v64)
    x32[2, 3], y64[4], v64[5] = 41, 42, 43
    @test (features(data)[3, 2], labels(data)[4], variances(data)[5]) == (41, 42, 43)
    @test BIV.forget_lent() == before + 1
    close(data)
    @test BIV.forget_lent() == before
    refused(() -> borrow(x32, y64[1:5]), :SHAPE, "labels have 5 rows")
    refused(() -> borrow(x32, y64; missing_labels=:none), :INVALID_CONFIG, "missing_labels")
    @test BIV.forget_lent() == before
    # What cannot be used as it is was copied, and is not kept.
    copied = borrow(permutedims(x), Float32.(y); groups=y)
    @test features(copied) == x && labels(copied) == y
    @test BIV.forget_lent() == before
end

# dlpack.h's structs.
struct DLTensor
    data::Ptr{Cvoid}
    device::Tuple{Int32,Int32}
    ndim::Int32
    dtype::Tuple{UInt8,UInt8,UInt16}
    shape::Ptr{Int64}
    strides::Ptr{Int64}
    byte_offset::UInt64
end
struct DLManagedTensorVersioned
    version::Tuple{UInt32,UInt32}
    manager_ctx::Ptr{Cvoid}
    deleter::Ptr{Cvoid}
    flags::UInt64
    dl_tensor::DLTensor
end

const DELETED = Ref(0)
delete_tensor(::Ptr{Cvoid}) = (DELETED[] += 1; nothing)

"A tensor over `array`, whose dimensions it has in the opposite order; all of it is the caller's to keep."
function dlpack(array::Array{T}) where {T}
    shape = Int64[reverse(size(array))...]
    deleter = @cfunction(delete_tensor, Cvoid, (Ptr{Cvoid},))
    tensor = DLTensor(pointer(array), (1, 0), ndims(array), (2, 8sizeof(T), 1), pointer(shape), C_NULL, 0)
    return Ref(DLManagedTensorVersioned((1, 3), C_NULL, deleter, 0, tensor)), shape
end

@testset "DLPack" begin
    @test (sizeof(DLTensor), sizeof(DLManagedTensorVersioned)) == (48, 80)
    x32, y64, out = Float32.(permutedims(x)), copy(y), zeros(6)
    parts = dlpack.((x32, y64, out, x32, zeros(5)))
    place(number) = Ptr{Cvoid}(Base.unsafe_convert(Ptr{DLManagedTensorVersioned}, parts[number][1]))
    GC.@preserve x32 y64 out parts begin
        data = from_dlpack(place(1), place(2); stream=Ptr{Cvoid}(1))
        y64[2] = 77
        @test features(data) == x && labels(data) == y64 && DELETED[] == 0
        close(data)
        @test DELETED[] == 2
        network = Model(kind="mlp", inputs=3, hidden=[4])
        predict_dlpack!(network, place(1), place(3))
        @test out == predict(network, x32; obsdim=2) && DELETED[] == 4
        refused(() -> from_dlpack(place(1), place(1)), :INVALID_ARGUMENT, "labels is the same tensor as features")
        @test DELETED[] == 5
        refused(() -> from_dlpack(place(1), C_NULL), :INVALID_ARGUMENT, "labels is NULL")
        refused(() -> from_dlpack(place(1), place(5)), :SHAPE, "labels have 5 rows")
        @test DELETED[] == 8
    end
end

small() = add_noise(synthetic(rows=200, features=5); distribution=(kind="gamma", mean=5, variance=50))
small_model(; fields...) = Model(; kind="mlp", inputs=5, hidden=[8], fields...)

const TABLE = (area=[10.0, 20, 30, 40], rooms=[1, 2, 3, 4], town=["a", "b", "a", "b"], rent=[100, 200, missing, 400],
    error=[1, 2, 3, 4])
struct Columns # what a table of some package looks like from outside
    area::Vector{Float64}
    rent::Vector{Float64}
end

@testset "tables" begin
    roles = (labels=:rent, std=:error, missing_labels=:mask)
    data = Dataset(TABLE; roles..., features=[:rooms, "area"])
    @test features(data) == [1 10; 2 20; 3 30; 4 40] && variances(data)[4] == 16 && info(data).masked_labels == 1
    @test [column["name"] for column in describe(data)["columns"]["features"]] == ["rooms", "area"]
    rows = [NamedTuple{keys(TABLE)}(Tuple(column[row] for column in TABLE)) for row in 1:4]
    @test features(Dataset(rows; roles..., groups=:town, features=:area)) == hcat(TABLE.area)
    @test features(Dataset(Columns([1, 2], [3, 4]); labels="rent")) == hcat([1, 2])
    @test labels(Dataset(Columns([1, 2], [3, 4]); labels=(:rent, :area), features=:area)) == [3 1; 4 2]

    failure(() -> Dataset(TABLE; roles...), "the column 'town' has values of type String, must be numbers")
    failure(() -> Dataset(TABLE; labels=:price), "there is no column 'price', but area, rooms, town, rent, error")
    failure(() -> Dataset((a=[1, 2], b=[1]); labels=:a), "the column 'b' has 1 rows, 'a' has 2")
    failure(() -> Dataset("table"; labels=:a), "a table is needed")
    refused(() -> Dataset((a=[1, missing], b=[1, 2]); labels=:b), :INVALID_ARGUMENT, "row 2, feature 1: NaN")

    # A model that was trained on a table finds the columns by their names.
    house = (rooms=rand(60), area=rand(60), rent=rand(60), error=fill(0.1, 60))
    network, report = fit(progress -> nothing, house; labels=:rent, std=:error, members=2, epochs=1)
    @test report["rows"] == 60
    predictions = predict(network, (area=house.area, town=house.rent, rooms=house.rooms))
    @test predictions == predict(network, hcat(house.rooms, house.area)) == predict_with_variance(network, house)[1]
    @test predict(network, [(area=house.area[1], rooms=house.rooms[1])]) == predictions[1:1]
    failure(() -> predict(network, (area=[1], room=[1])), "there is no column 'rooms', but area, room")
    failure(() -> predict(small_model(), TABLE), "does not know the names")
    @test fit(house; labels=:rent, members=2, epochs=1)[2]["rows"] == 60
end

# Tables.jl's functions, for a table that only they can read.
struct Query end
module Tables
import ..Query
istable(_) = false
istable(::Query) = true
columns(query::Query) = query
columnnames(::Query) = (:a, :b)
getcolumn(::Query, name::Symbol) = name == :a ? [1, 2] : [3, 4]
end

@testset "tables of Tables.jl" begin
    failure(() -> Dataset(Query(); labels=:b), "a table is needed")
    Base.loaded_modules[BIV.TABLES] = Tables
    try
        @test features(Dataset(Query(); labels=:b)) == hcat([1, 2])
        @test features(Dataset((c=[1], d=[2]); labels=:d)) == hcat([1])
    finally
        delete!(Base.loaded_modules, BIV.TABLES)
    end
end

@testset "what is wrong with data is said" begin
    refused(() -> Dataset(x, y[1:5]), :SHAPE, "labels have 5 rows, the features have 6")
    refused(() -> Dataset([x; NaN 0 0], [y; 1]), :INVALID_ARGUMENT, "row 7, feature 1: NaN")
    refused(() -> Dataset(x, y; variances=-y), :INVALID_ARGUMENT, "row 1, variance 1: -1 must not be negative")
    # Rows, features, labels and lists count from 1, as Julia does; rows of files do so everywhere.
    refused(() -> Dataset(x, [1, 2, 3, 4, NaN, 6]), :INVALID_ARGUMENT, "row 5, label 1: NaN")
    refused(() -> Dataset(x, [y [1, NaN, 3, 4, 5, 6]]), :INVALID_ARGUMENT, "row 2, label 2: NaN")
    refused(() -> Dataset(permutedims([x; 0 0 NaN]), [y; 1]; obsdim=2), :INVALID_ARGUMENT, "row 7, feature 3: NaN")
    refused(() -> variance_model([1.0, NaN], [1.0, 1.0]), :INVALID_ARGUMENT, "row 2: ")
    refused(() -> predict(small_model(), [ones(2, 5); NaN 1 1 1 1]), :INVALID_ARGUMENT, "row 3, feature 1: NaN")
    refused(() -> loss((kind="mse",), [1.0, NaN], [1.0, 2.0]), :INVALID_ARGUMENT, "row 2, prediction 1: NaN is not finite")
    refused(() -> small_model(hidden=[8, -1]), :INVALID_CONFIG, "model.hidden[2]: is -1, must be at least 1")
    mktempdir() do folder
        write(joinpath(folder, "t.csv"), "a,y\n1,2\n3,x\n")
        refused(() -> read_csv(joinpath(folder, "t.csv"); labels="y"), :PARSE, "line 3, row 2, column 'y': 'x'")
    end
    failure(() -> Dataset(x, y; variances=y, std=y), "not both")
    failure(() -> Dataset(["a"], y), "an array of real numbers is needed, not of String")
    failure(() -> Dataset(x, y; obsdim=3), "obsdim is 3, the array has 2 dimensions")
    refused(() -> read_csv("nowhere.csv"; labels=["y"]), :NOT_FOUND, "nowhere.csv")
    refused(() -> synthetic(row=3), :INVALID_CONFIG, "synthetic.row: is no known field (did you mean 'rows'?)")
    failure(() -> subset(Dataset(x, y), [1, 7]), "6-element UnitRange{Int64} at index [7]")
    # The option that an error is about.
    @test failure(() -> small_model(hidden=[8, -1]), "-1").field == "model.hidden[2]"
    @test failure(() -> Dataset(x, y[1:5]), "5 rows").field === nothing
    closed = Dataset(x, y)
    close(closed)
    close(closed)
    @test !isopen(closed)
    refused(() -> labels(closed), :INVALID_HANDLE, "NULL")
    @test repr(closed) == "Dataset(closed)" == repr("text/plain", closed)
end

@testset "objects show what they are" begin
    @test repr(Dataset(x, y)) == "Dataset(6 rows, 3 features, 1 output, no variances)" == repr("text/plain", Dataset(x, y))
    data = Dataset(TABLE; labels=:rent, std=:error, features=[:area, :rooms], missing_labels=:mask)
    @test repr("text/plain", data) ==
          "Dataset(4 rows, 2 features, 1 output, variances known)\n  features: area, rooms\n  masked labels: 1"
    network = Model(kind="mlp", inputs=2, hidden=[3])
    @test repr("text/plain", network) == "Model(2 inputs, 1 output, 13 parameters)\n  kind: mlp\n  trained: no"
    trainer = Trainer(network, data; batch_size=2)
    step!(trainer)
    @test repr(trainer) == "Trainer(1 epoch, 1 step)"
    @test occursin(r"^Trainer.*\n  loss: .*\"biv\".*\n  device: cpu\n  model: Model\(2 inputs", repr("text/plain", trainer))
    @test occursin("trained: yes\n  features: area, rooms", repr("text/plain", network))
end

@testset "training" begin
    data, test = split_rows(small(); train_size=150)
    trainer = Trainer(small_model(), data; batch_size=50, learning_rate=0.01)
    first = step!(trainer)
    @test first.rows == 50 && 1 <= first.effective_batch_size <= 50 && first.epsilon == 0.1
    before = evaluate(trainer, test).rmse
    seen = []
    @test fit!(trainer, 30; test=test) do epoch
        push!(seen, epoch)
    end
    @test length(seen) == 30 && seen[end].epoch == 30 && seen[end].test.rmse == evaluate(trainer, test).rmse < before
    predictions = predict(trainer, features(test))
    @test sqrt(sum(abs2, predictions - labels(test)) / 50) ≈ evaluate(trainer, test).rmse rtol = 1e-6
    @test predict(model(trainer), permutedims(features(test)); obsdim=2) == predictions
    learning_rate!(trainer, 0.5)
    @test learning_rate(trainer) == 0.5 && progress(trainer).epoch == 30
    @test describe(trainer)["kernel"] == "mlp_cpu" && describe(trainer)["options"]["learning_rate"] == 0.5
    step!(Trainer(small_model(), nothing; loss=(kind="mse",)), features(test), labels(test))
    refused(() -> step!(trainer, x, y), :SHAPE, "3 features, the model has 5")
    refused(() -> Trainer(small_model(), data; loss=(kind="biv", epsilon=-1)), :INVALID_CONFIG, "trainer.loss.epsilon: is -1")
    refused(() -> learning_rate!(trainer, NaN), :INVALID_CONFIG, "learning_rate")
end

@testset "members" begin
    data = small()
    one(seed) = Model(kind="mlp", inputs=5, hidden=[8], seed=seed)
    network = one(3)
    trainer = Trainer(network, data; batch_size=50, seed=1, members=3, shared_batches=true)
    @test step!(trainer).rows == 50
    fit!(trainer, 3)
    alone = map(0:2) do number
        single = one(3 + number)
        fit!(Trainer(single, data; batch_size=50, seed=1), 3)
        predict(single, features(data))
    end
    @test predict(network, features(data)) ≈ sum(alone) / 3 rtol = 1e-12
    refused(() -> Trainer(network, data; batch_size=50, members=2), :INVALID_CONFIG, "trainer.members: is 2")
end

@testset "optimizers and schedules" begin
    data = small()
    trainer = Trainer(small_model(), data; batch_size=50, learning_rate=0.02, clip_norm=1.0,
        optimizer=(kind="sgd", momentum=0.9, nesterov=true), schedule=(kind="step", epochs=1, gamma=0.5, warmup_steps=2))
    @test step!(trainer).learning_rate == 0.01 && step!(trainer).learning_rate == 0.02
    rates = Float64[]
    fit!(epoch -> push!(rates, epoch.learning_rate) !== nothing, trainer, 3)
    @test rates == [0.02, 0.01, 0.005] && learning_rate(trainer) == 0.02
    refused(() -> Trainer(small_model(), data; optimizer=(kind="lion",)), :INVALID_CONFIG, "trainer.optimizer.kind: is 'lion'")
end

@testset "callbacks stop, throw and use the trainer" begin
    data = small()
    trainer = Trainer(small_model(), data; batch_size=50)
    epochs = 0
    @test !fit!(trainer, 10) do epoch
        epochs = epoch.epoch
        evaluate(trainer, data).rmse > 0 && epoch.epoch < 3
    end
    @test epochs == 3
    failure("out of patience") do
        fit!(epoch -> error("out of patience"), trainer, 10)
    end
    @test fit!(trainer, 1)
    @test progress(trainer).epoch == 5
    # One that no fit has heard is the next one's.
    cancel!(trainer)
    failure("before it began") do
        fit!(trainer, 1)
    end
    @test fit!(trainer, 1)
end

# A process that gets SIGINT while it trains, as that of the REPL does: from a callback; then without one, when the run has
# written to its log.
const INTERRUPTED = """
    using BIV
    Base.exit_on_sigint(false)
    data = BIV.synthetic(rows=500, features=5)
    trainer = Trainer(Model(kind="mlp", inputs=5, hidden=[8]), data; batch_size=50, loss=(kind="mse",))
    interrupted(call) = try
        call()
        error("not interrupted")
    catch error
        error isa InterruptException || rethrow()
    end
    interrupted(() -> fit!(epoch -> ccall(:kill, Cint, (Cint, Cint), getpid(), 2) == 0, trainer, 10^9))
    out = tempname()
    run(`sh -c "until [ -s \$out/metrics.jsonl ]; do sleep 0.1; done; kill -INT \$(getpid())"`; wait=false)
    interrupted(() -> BIV.run_experiment((dataset=(kind="synthetic", train_size=100, test_size=9), batch_size=50,
        model=(kind="mlp", hidden=[4]), loss=(kind="mse",), epochs=10^6, out=out)))
    rm(out; recursive=true)
    print(fit!(trainer, 2) && isfinite(step!(trainer).loss))
    """

@testset "Ctrl-C" begin
    julia = `$(Base.julia_cmd()) --startup-file=no --project=$(Base.active_project()) -e $INTERRUPTED`
    @test read(julia, String) == "true"
end

@testset "seeds of 64 bits" begin
    seed = typemax(UInt64)
    network = Model(kind="mlp", inputs=3, hidden=[4], seed=seed)
    @test describe(network)["options"]["seed"] === seed
    @test predict(network, x) != predict(Model(kind="mlp", inputs=3, hidden=[4], seed=seed - 1), x)
    @test labels(shuffled(Dataset(x, y); seed=seed)) != labels(shuffled(Dataset(x, y); seed=seed - 1))
    @test length(sample_noise((kind="uniform", low=0, high=2), 3; seed=seed)) == 3
end

@testset "files" begin
    mktempdir() do folder
        data = small()
        trainer = Trainer(small_model(), data; batch_size=50)
        fit!(trainer, 2)
        save(trainer, joinpath(folder, "trainer.biv"))
        save(model(trainer), joinpath(folder, "model.biv"))
        again = load_trainer(joinpath(folder, "trainer.biv"), data)
        @test step!(again) == step!(trainer)
        other = subset(data, reverse(1:length(data)))
        refused(() -> load_trainer(joinpath(folder, "trainer.biv"), other), :INVALID_ARGUMENT, "its rows are in another order")
        @test step!(load_trainer(joinpath(folder, "trainer.biv"), other; accept_data=true)).loss > 0
        loaded = load_model(joinpath(folder, "model.biv"))
        @test length(predict(loaded, features(data))) == 200
        rows = features(data)
        @test predict(load_model(joinpath(folder, "trainer.biv")), rows) == predict(loaded, rows)
        twin = copy(loaded)
        @test predict(twin, rows) == predict(loaded, rows) == predict(load_model(save(loaded)), rows)
        @test step!(load_trainer(save(trainer), data)) == step!(trainer)
        export_model(loaded, joinpath(folder, "weights.safetensors"))
        export_model(loaded, joinpath(folder, "model.onnx"))
        export_model(loaded, joinpath(folder, "model"); format="onnx")
        @test read(joinpath(folder, "model.onnx")) == read(joinpath(folder, "model"))
        refused(() -> export_model(loaded, joinpath(folder, "model")), :INVALID_ARGUMENT, ".onnx or .safetensors")
        tensor!(twin, "0.bias", zeros(8))
        @test predict(twin, rows) != predict(loaded, rows)
        @test length(import_weights!(twin, joinpath(folder, "weights.safetensors"))["imported"]) == 4
        @test predict(twin, rows) == predict(loaded, rows)
        other = Model(kind="mlp", inputs=5, hidden=[8, 8])
        refused(() -> import_weights!(other, joinpath(folder, "weights.safetensors")), :SHAPE, "tensor '2.bias' has shape [1]")
        write(joinpath(folder, "broken.biv"), "hello")
        refused(() -> load_model(joinpath(folder, "broken.biv")), :CORRUPT, "broken.biv")
        write(joinpath(folder, "t.csv"), "a,y,e\n1,2,1.645\n3,4,3.29\n")
        @test variances(read_csv(joinpath(folder, "t.csv"); labels=["y"], standard_errors=["e"], error_divisor=1.645)) ≈ [1, 4]
        write(joinpath(folder, "u.csv"), "y,k,a\n2,r,1\n,r,2\n4,b,3\n")
        table = read_csv(joinpath(folder, "u.csv"); labels=["y"], one_hot=["k"], skip_missing=true)
        said = describe(table)
        @test [column["name"] for column in said["columns"]["features"]] == ["k", "a"]
        @test said["left_out"] == ["row 2: column 'y' is empty"] && info(table).left_out == 1
    end
end

@testset "models, losses, experiments" begin
    network = small_model()
    @test info(network).parameters == 5 * 8 + 8 + 8 + 1
    @test size(tensor(network, "0.weight")) == (8, 5)
    tensor!(network, "0.bias", fill(0.5, 8))
    @test tensor(network, "0.bias") == fill(0.5, 8)
    refused(() -> tensor!(network, "0.bias", zeros(7)), :SHAPE, "'0.bias'")
    refused(() -> tensor(network, "9.bias"), :NOT_FOUND, "9.bias")
    refused(() -> Model(kind="mlp"), :INVALID_CONFIG, "inputs")

    result = loss((kind="biv", epsilon=0.5), [1.0, 2.0], [0.0, 0.0]; variances=[0.5, 1.5])
    # Weights 1 and 1/2, normalised: 2/3 and 1/3.
    @test result.value ≈ 2 / 3 + 4 / 3 && result.gradient ≈ [4 / 3, 4 / 3] && result.effective_batch_size ≈ 1.8
    # Of value 1 and variance e = 0.5 + exp(0): (log e + 1 / e) / 2.
    result = loss((kind="gaussian",), [1.0 0.0], [0.0]; variances=[0.5])
    @test result.value ≈ (log(1.5) + 1 / 1.5) / 2 && result.gradient[1] ≈ 1 / 1.5 && size(result.gradient) == (1, 2)
    @test all(0 .<= sample_noise((kind="uniform", low=0, high=2), 100; seed=1) .<= 2)

    config = (dataset=(kind="synthetic", train_size=128, test_size=32), batch_size=32, epochs=2,
              model=(kind="mlp", hidden=[4]), loss=(kind="mse",))
    @test resolve(config)["learning_rate"] == 0.01
    batches = 0
    outcome = run_experiment(config) do progress
        batches = progress.done
        true
    end
    @test batches == 8 && outcome["last"]["rmse"] > 0
    @test run_experiment(progress -> false, config) === nothing
    refused(() -> run_experiment((dataset=(kind="bike", train_size=9),)), :INVALID_CONFIG, "noise")
    sweep = run_sweep((base=config, grid=(seeds=[1, 2], losses=[(kind="mse",)])))
    @test sweep["table"][1]["runs"] == 2
end

@testset "masks and groups" begin
    for mask in (missing, NaN)
        masked = Dataset(x, [mask; y[2:6]]; missing_labels=:mask)
        @test info(masked).masked_labels == 1 && isnan(labels(masked)[1]) && labels(masked)[2:6] == y[2:6]
    end
    @test info(Dataset(x, y; variances=[y[1:4]; Inf; Inf])).masked_labels == 2
    @test info(Dataset(x, y; std=y)).masked_labels == 0
    refused(() -> Dataset(x, [missing; y[2:6]]), :INVALID_ARGUMENT, "row 1, label 1")
    refused(() -> Dataset(x, y; missing_labels=:drop), :INVALID_CONFIG, "drop")
    refused(() -> Dataset(x, y; groups=1:5), :SHAPE, "groups")
    # Two groups are two folds, and no more.
    data = Dataset(rand(60, 2), rand(60); groups=repeat(["north", "south"], 30))
    @test fit(data; members=2, epochs=1)[2]["rows"] == 60
    refused(() -> fit(data; members=3, epochs=1), :INVALID_ARGUMENT, "group")
end

@testset "data that grow" begin
    part(rows) = Dataset(x[rows, :], y[rows]; variances=y[rows])
    grown = BIV.append(part(1:4), part(5:6))
    @test labels(grown) == y && features(grown) == x && variances(grown) == y
    @test labels(latest(grown, 2)) == y[5:6] && labels(latest(grown, 9)) == y
    @test variances(with_variances(grown, 2y)) == 2y && variances(with_variances(grown; std=y)) == y .^ 2
    refused(() -> BIV.append(grown, Dataset(x, y)), :INVALID_ARGUMENT, "have none")
    refused(() -> with_variances(grown, y[1:2]), :SHAPE, "2 rows")
    @test_throws ArgumentError latest(grown, 0)
    @test_throws ArgumentError with_variances(grown)
    # Texts are the same groups in all data sets.
    named(groups) = Dataset(rand(30, 2), rand(30); groups=repeat(groups, 15))
    data = BIV.append(named(["north", "south"]), named(["south", "east"]))
    @test fit(data; members=3, epochs=1)[2]["rows"] == 60
    refused(() -> fit(data; members=4, epochs=1), :INVALID_ARGUMENT, "group")

    trainers = [Trainer(Model(kind="mlp", inputs=size(x, 2), hidden=[4]), grown; batch_size=2) for _ in 1:2]
    for _ in 1:4
        set_data!(trainers[2], grown)
        @test step!(trainers[1]) == step!(trainers[2])
    end
    set_data!(trainers[2], BIV.append(grown, grown))
    @test isfinite(step!(trainers[2]).loss)
    refused(() -> set_data!(trainers[2], synthetic(rows=5, features=9)), :SHAPE, "features")
end

# Residuals that are normal but for no chance: the quantiles of 1,000 equal parts, for each of two variances.
quantiles(count) = [sqrt(2) * inverse_erf(2 * (k - 0.5) / count - 1) for k in 1:count]
function inverse_erf(value)
    low, high = -6.0, 6.0
    for _ in 1:80
        middle = (low + high) / 2
        ccall((:erf, "libm.so.6"), Float64, (Float64,), middle) < value ? (low = middle) : (high = middle)
    end
    return low
end

@testset "variance models" begin
    v = repeat([0.1, 10.0]; inner=1000)
    r = repeat(quantiles(1000); outer=2) .* sqrt.(0.8 .* v .+ 0.2)
    found = variance_model(r, v)
    @test found.verdict == "profile" && found.warning === nothing && found.rows == 2000
    @test 0.2 < found.epsilon_best < 0.3 && found.epsilon >= found.epsilon_best && 0.75 < found.scale < 0.85
    @test found.tau2 ≈ found.scale * found.epsilon
    @test found.mean_z2 ≈ sum(r .^ 2 ./ (found.scale .* v .+ found.tau2)) / 2000
    @test occursin("overstated", variance_model(r, 2.5v).warning)
    larger = variance_model(10r, 100v)
    @test larger.epsilon ≈ 100 * found.epsilon && larger.tau2 ≈ 100 * found.tau2 && larger.scale ≈ found.scale
    masked = variance_model([r; 1e9], [v; Inf])
    @test masked.rows == 2000 && masked.epsilon ≈ found.epsilon
    @test variance_model(Float32.(r), v).epsilon ≈ found.epsilon rtol = 1e-4
    # The noise does not depend on the variances.
    useless = variance_model(repeat(quantiles(1000); outer=2), v)
    @test useless.verdict == "mse" && useless.epsilon == Inf && useless.scale == 0 && occursin("variances", useless.warning)
    few = variance_model(r[1:29], v[1:29])
    @test few.verdict == "too-few-rows" && few.epsilon == Inf
    @test variance_model(r, ones(2000)).verdict == "equal-variances"
    @test variance_model(zeros(2000), v).verdict == "zero-residuals"
    refused(() -> variance_model(r, v[2:end]), :SHAPE, "2000")
    refused(() -> variance_model([NaN; r[2:end]], v), :INVALID_ARGUMENT, "row 1:")
    refused(() -> variance_model(r, [-1; v[2:end]]), :INVALID_ARGUMENT, "-1")
    for (number, name) in enumerate(BIV.VERDICTS)
        @test occursin("#define BIV_VERDICT_$(uppercase(replace(name, "-" => "_"))) $number\n", HEADER)
    end
end

truth(x) = sin.(4 .* x[:, 1]) .+ 2 .* x[:, 2]
function binary_noise(rng; rows=1000)
    x = rand(rng, rows, 2)
    v = ifelse.(isodd.(1:rows), 4.0, 0.01)
    return x, truth(x) .+ sqrt.(v) .* randn(rng, rows), v
end

@testset "fit" begin
    rng = MersenneTwister(5)
    x, y, v = binary_noise(rng)
    test = rand(rng, 500, 2)
    settings = (model=(kind="mlp", inputs=2, hidden=[32]), members=3, epochs=30, batch_size=50, learning_rate=0.005)
    seen = []
    network, report = fit(x, y; variances=v, settings...) do progress
        push!(seen, progress)
        nothing
    end
    @test seen[end].epoch == seen[end].epochs == report["epochs"] && seen[end].steps == seen[end].total_steps
    @test seen[end].is_final === false && seen[end].held_out_loss > 0 && seen[end].epsilon > 0
    found = report["outputs"][1]
    @test report["members"] == 3 && report["rows"] == 1000 && isempty(report["warnings"])
    @test 0 < found["variance_model"]["epsilon"] < 1 && 0.7 < found["variance_model"]["scale"] <= 1
    @test 0.6 < found["coverage_68"] < 0.76 && length(report["history"]) == report["epochs"]

    predictions, variances = predict_with_variance(network, test)
    @test predictions == predict(network, test) && size(variances) == (500,) && all(variances .> 0)
    @test predict_with_variance(network, permutedims(test); obsdim=2) == (predictions, variances)
    rmse(model) = sqrt(sum(abs2, predict(model, test) - truth(test)) / 500)
    alike, _ = fit(Dataset(x, y; std=sqrt.(v)); settings..., loss=(kind="mse",))
    @test rmse(network) < 0.7 * rmse(alike)

    bars = error_bars(network)
    @test bars.scale ≈ [found["variance_model"]["scale"]] && bars.tau2 ≈ [found["variance_model"]["tau2"]]
    @test sum(variances) / 500 ≈ bars.tau2[1] rtol = 0.5
    metrics = evaluate(network, Dataset(test, truth(test)))
    @test metrics.rmse ≈ rmse(network) && metrics.mean_z2 ≈ sum((predictions - truth(test)) .^ 2 ./ variances) / 500
    @test isnan(metrics.expected_rmse) && 0 < metrics.coverage_68 <= metrics.coverage_95 <= 1
    noisy = evaluate(network, Dataset(x, y; variances=v))
    @test noisy.expected_rmse ≈ sqrt(sum(v) / 1000) && noisy.weighted_rmse < noisy.rmse

    # Without variances; with what the library says of it.
    _, plain = fit(x, y; settings..., epochs=1)
    @test plain["outputs"][1]["variance_model"]["epsilon"] === Inf && plain["history"][1]["models"][1]["epsilon"] === Inf
    @test occursin("no variances", plain["warnings"][1])
    _, masked = fit(x, [missing; y[2:end]]; variances=v, missing_labels=:mask, settings..., epochs=1)
    @test masked["masked_labels"] == 1
    same = fit(Dataset(x, y; variances=v), "{\"members\": 3, \"epochs\": 1, \"batch_size\": 50}";
               model="{\"kind\": \"mlp\", \"inputs\": 2, \"hidden\": [4]}")
    @test same[2]["batch_size"] == 50
    # A network that predicts its variance.
    gaussian, _ = fit(x, y; variances=v, settings..., epochs=5, loss=(kind="gaussian",),
                      model=(kind="mean_variance", network=settings.model))
    @test all(predict_with_variance(gaussian, test)[2] .> 0) && error_bars(gaussian) === nothing

    refused(() -> fit(x, y; member=3), :INVALID_CONFIG, "fit.member: is no known field (did you mean 'members'?)")
    refused(() -> fit(x, y; members=0), :INVALID_CONFIG, "fit.members")
    refused(() -> fit(x, y; settings..., model=(kind="mlp", inputs=3, hidden=[])), :SHAPE, "3")
    refused(() -> fit(x[1:2, :], y[1:2]; settings...), :INVALID_ARGUMENT, "2")
    failure(() -> fit(x, y; variances=v, std=v), "not both")
    refused(() -> predict_with_variance(small_model(), rand(2, 5)), :UNSUPPORTED, "fit")
    refused(() -> predict_with_variance(network, rand(2, 3)), :SHAPE, "3")
end

@testset "a fit is stopped and goes on" begin
    x, y, v = binary_noise(MersenneTwister(6); rows=300)
    settings = (variances=v, model=(kind="mlp", inputs=2, hidden=[8]), members=2, epochs=6)
    mktempdir() do folder
        file = joinpath(folder, "fit.biv")
        @test fit(progress -> progress.epoch < 2, x, y; settings..., checkpoint=file) === nothing
        @test isfile(file)
        epochs = []
        network, _ = fit(x, y; settings..., checkpoint=file) do progress
            push!(epochs, progress.epoch)
        end
        @test minimum(epochs) >= 2
        @test predict(network, x) == predict(fit(x, y; settings...)[1], x)
    end
    failure(() -> fit(progress -> error("out of patience"), x, y; settings...), "out of patience")
end

@testset "normalisation" begin
    network, inputs = small_model(), [Float64(i + j) for i in 1:4, j in 1:5]
    @test normalization(network) === nothing && error_bars(network) === nothing
    before = predict(network, inputs)
    @test set_normalization!(network; feature_mean=0, feature_std=1, label_mean=5, label_std=2) === network
    @test predict(network, inputs) ≈ 2 .* before .+ 5 rtol = 1e-5
    scale = (feature_mean=[1.0, 2, 3, 4, 5], feature_std=[2.0, 2, 2, 2, 4], label_mean=[0.0], label_std=[1.0])
    set_normalization!(network; scale...)
    @test normalization(network) == scale && info(network).normalized == 1
    other = small_model()
    @test predict(network, inputs .* [2 2 2 2 4] .+ (1:5)') ≈ before rtol = 1e-5
    @test normalization(model(Trainer(network, small(); batch_size=50))) == scale
    reset_normalization!(network)
    @test predict(network, inputs) == before == predict(other, inputs) && normalization(network) === nothing
    refused(() -> set_normalization!(network; scale..., feature_std=0), :INVALID_ARGUMENT, "no deviation")
    failure(() -> set_normalization!(network; scale..., label_mean=[1, 2]), "[5, 5, 2, 1] values for 5 features and 1 labels")
end

@testset "a validation set" begin
    x, y, v = binary_noise(MersenneTwister(7))
    train, validation = split_rows(Dataset(x, y; variances=v); train_size=700)
    options = (loss=(kind="biv", epsilon="auto"), batch_size=50, learning_rate=0.02, patience=3, normalization="labels")
    trainer = Trainer(Model(kind="mlp", inputs=2, hidden=[32]), train; options...)
    refused(() -> fit!(trainer, 1), :INVALID_ARGUMENT, "validation")
    @test set_validation!(trainer, validation) === trainer
    seen = []
    @test fit!(epoch -> push!(seen, epoch), trainer, 200)
    losses = [epoch.validation_loss for epoch in seen]
    @test 4 <= length(seen) < 200 && all(isfinite, losses) && seen[end].best_epoch == length(seen) - 3
    @test evaluate(trainer, validation).rmse == evaluate(model(trainer), validation).rmse
    plain = Trainer(small_model(), small(); batch_size=50)
    fit!(epoch -> (@test isnan(epoch.validation_loss) && epoch.best_epoch == 0), plain, 1)
    refused(() -> set_validation!(plain, validation), :SHAPE, "2")
    refused(() -> Trainer(small_model(), small(); normalization="mean"), :INVALID_CONFIG, "normalization")
end

@testset "the library" begin
    @test version() >= v"0.1" && threads() >= 1 && cuda_devices() >= 0
    @test haskey(schema("trainer"), "properties")
    # Whatever BLAS Julia has: libtorch calls its own.
    @test build_info()["blas"] == "libtorch_cpu.so"
    before, heard = threads(), []
    set_log((level, message) -> (push!(heard, (level, message)); error("dropped")), :info)
    @test any(startswith(message, "this is libbiv") for (level, message) in heard if level == :info)
    empty!(heard)
    threads!(1001)
    threads!(1001)
    @test length(heard) == 1 && heard[1][1] == :warning && startswith(heard[1][2], "1001 threads")
    set_log(nothing)
    threads!(1002)
    @test length(heard) == 1
    threads!(before)
    failure(() -> set_log(println, :loud), "level is :loud")
    for _ in 1:2000
        Dataset(x, y)
    end
    GC.gc()
end

@testset "examples" begin
    for name in sort(readdir(joinpath(@__DIR__, "..", "examples")))
        @testset "$name" begin
            Base.include(Module(), joinpath(@__DIR__, "..", "examples", name))
            @test true
        end
    end
end
